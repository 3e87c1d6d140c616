"""The owner's suspension ends when it was asked to, whatever the wall clock and the box do."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_agent import suspension
from runner_agent.errors import BoxError
from runner_agent.suspension import Now, OwnerSuspension

HOUR_NS = 3_600 * 1_000_000_000
T0 = Now("boot", 5 * HOUR_NS, 1_700_000_000_000)
spans_s = st.integers(1, suspension.LONGEST_SPAN_S)


@given(span_s=spans_s, passed_ms=st.integers(0, 10**12), wall_ms=st.integers(0, 10**13))
def test_in_its_own_boot_only_the_time_since_boot_counts(span_s: int, passed_ms: int, wall_ms: int) -> None:
    made = suspension.make("", span_s, T0)
    left_ms = made.left_ms(Now("boot", T0.boottime_ns + passed_ms * 1_000_000, wall_ms))
    assert left_ms == max(0, span_s * 1000 - passed_ms)


@given(span_s=spans_s, passed_ms=st.integers(-(10**12), 10**12), boottime_ns=st.integers(0, HOUR_NS))
def test_after_a_reboot_the_wall_clock_counts_and_never_adds_to_the_span(
    span_s: int, passed_ms: int, boottime_ns: int
) -> None:
    made = suspension.make("", span_s, T0)
    left_ms = made.left_ms(Now("next boot", boottime_ns, T0.wall_ms + passed_ms))
    assert left_ms == min(span_s * 1000, max(0, span_s * 1000 - passed_ms))


def test_it_never_ends_early_by_the_part_of_a_millisecond() -> None:
    made = suspension.make("", 1, T0)
    assert made.left_ms(Now("boot", T0.boottime_ns + 10**9 - 1, 0)) == 1


def test_without_a_span_it_lasts_until_it_is_lifted(tmp_path: Path) -> None:
    path = tmp_path / "suspension.json"
    suspension.save(path, suspension.make("demo", None, T0))
    assert suspension.current(path, Now("much later", 0, 10**14)) == OwnerSuspension("demo")
    suspension.lift(path)
    assert suspension.current(path, T0) is None
    suspension.lift(path)


@given(span_s=st.none() | spans_s, reason=st.text(st.characters(codec="utf-8"), max_size=250))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, span_s: int | None, reason: str
) -> None:
    path = tmp_path_factory.mktemp("state") / "suspension.json"
    try:
        made = suspension.make(reason, span_s, T0)
    except BoxError:
        assert len(reason.strip()) > suspension.LONGEST_REASON or not reason.strip().isprintable()
        return
    suspension.save(path, made)
    assert suspension.read(path).own == suspension.current(path, T0) == made
    assert made.reason


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"reason": "x", "until": 3}', '{"reason": "x", "until": {}}']
)
def test_a_damaged_file_keeps_the_runner_suspended(tmp_path: Path, content: str) -> None:
    path = tmp_path / "suspension.json"
    path.write_text(content)
    assert suspension.current(path, T0) == OwnerSuspension(suspension.DAMAGED)


@pytest.mark.parametrize(
    ("text", "span_s"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400), (" 366d ", 31622400)],
)
def test_a_span_is_read_as_it_is_said(text: str, span_s: int) -> None:
    assert suspension.parse_span_s(text) == span_s


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "1.5h", "30m1h", "0s", "367d", "2 hours", "9" * 12 + "s"])
def test_a_span_that_is_none_is_named_in_the_error(text: str) -> None:
    with pytest.raises(BoxError, match="is not a span of 1s to 366d; write for example"):
        suspension.parse_span_s(text)
