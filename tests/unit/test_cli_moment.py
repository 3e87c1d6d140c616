"""Moments as people type them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.errors import CliError
from services.cli.moment import parse
from services.words import format as fmt

NOW_MS = 1_795_356_000_000
TWO_O_CLOCK_UTC_MS = int(datetime(2026, 11, 22, 14, tzinfo=UTC).timestamp()) * 1000


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@given(st.integers(1, 2**63 - 1))
def test_a_number_sign_names_a_position(position: int) -> None:
    assert parse(f"#{position}", NOW_MS).position == position


@pytest.mark.parametrize(
    ("text", "age_ms"),
    [
        ("90s ago", 90_000),
        ("30 min ago", 1_800_000),
        ("2h ago", 7_200_000),
        (" 1 day ago ", 86_400_000),
        ("3 Weeks ago", 3 * 7 * 86_400_000),
    ],
)
def test_an_age_counts_from_now(text: str, age_ms: int) -> None:
    assert parse(text, NOW_MS).at_ms == NOW_MS - age_ms


@pytest.mark.usefixtures("in_new_york")
def test_a_time_is_local_as_everything_else_that_is_shown_unless_it_says_otherwise() -> None:
    hour_ms = 3_600_000
    assert parse("2026-11-22 09:00", NOW_MS).at_ms == TWO_O_CLOCK_UTC_MS
    assert parse("2026-11-22", NOW_MS).at_ms == TWO_O_CLOCK_UTC_MS - 9 * hour_ms
    assert parse("2026-11-22T14:00:00Z", NOW_MS).at_ms == TWO_O_CLOCK_UTC_MS
    assert parse("2026-11-22T14:00:00.250+02:00", NOW_MS).at_ms == TWO_O_CLOCK_UTC_MS - 2 * hour_ms + 250


@pytest.mark.usefixtures("in_new_york")
@given(st.integers(0, 4_000_000_000).map(lambda s: s * 1000))
def test_a_time_that_was_shown_means_the_same_when_it_is_typed(at_ms: int) -> None:
    shown = fmt.moment(at_ms) if at_ms else "1970-01-01T00:00Z"
    # The hour that is there twice when summer ends is taken to be the first.
    assert at_ms - parse(shown, NOW_MS).at_ms in (0, 3_600_000)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not a moment"),
        ("1234", "is not a moment"),
        ("2h", "is not a moment"),
        ("2 lightyears ago", "is not a moment"),
        ("2026-02-30", "is not a moment"),
        ("٣h ago", "is not a moment"),
        ("#0", "no position"),
        ("#9999999999999999999", "no position"),
        ("1969-12-31T23:59:59Z", "before 1970"),
        ("999999999999w ago", "before 1970"),
    ],
)
def test_what_is_no_moment_is_refused_with_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(CliError, match=sentence):
        parse(text, NOW_MS)


@given(st.text(max_size=30))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    try:
        made = parse(text, NOW_MS)
    except CliError:
        return
    assert made.at_ms >= 0 or made.position >= 1
