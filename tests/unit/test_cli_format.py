"""Numbers and times as people read them."""

import math
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.chart import Line, chart
from services.cli.errors import CliError
from services.cli.parameters import parse_labels, parse_span_ms
from services.quota.domain.minutes import to_milliminutes
from services.words import format as fmt


@given(st.integers(0, 10**12), st.integers(0, 10**9))
def test_minutes_are_rounded_as_the_quota_service_rounds_them(charged_ms: int, rate_micros: int) -> None:
    assert fmt.charged_milliminutes(charged_ms * rate_micros) == to_milliminutes(charged_ms * rate_micros)


@pytest.mark.parametrize(
    ("milliminutes", "words"),
    [
        (340, "0.34"),
        (35_200, "35.2"),
        (1_240_000, "1,240"),
        (-12_500, "-12.5"),
        (0, "0.00"),
        # As the page rounds them: services/gateway/web/test/format.test.ts.
        (7_625, "7.63"),
        (15, "0.02"),
        (-7_625, "-7.63"),
        (9_999, "10.00"),
        (999_950, "1,000.0"),
        (1_240_500, "1,241"),
    ],
)
def test_halves_of_minutes_go_away_from_zero(milliminutes: int, words: str) -> None:
    assert fmt.minutes(milliminutes) == words


@pytest.mark.parametrize(
    ("ms", "words"), [(-5, "0:00"), (999, "0:00"), (42_000, "0:42"), (751_000, "12:31"), (3_723_000, "1:02:03")]
)
def test_durations(ms: int, words: str) -> None:
    assert fmt.duration(ms) == words


@pytest.mark.parametrize(
    ("age_ms", "words"),
    [
        (3_000, "just now"),
        (45_000, "45 s ago"),
        (200_000, "3 min ago"),
        (7_300_000, "2 h ago"),
        (90_000_000, "1 day ago"),
    ],
)
def test_ages(age_ms: int, words: str) -> None:
    assert fmt.ago(10**12, 10**12 + age_ms) == words
    assert fmt.ago(0, 10**12) == "never"


@given(st.lists(st.floats()), st.integers(1, 60))
def test_a_sparkline_takes_any_floats_and_is_never_wider_than_asked(values: list[float], width: int) -> None:
    drawn = fmt.sparkline(values, width)
    assert len(drawn) <= width
    assert bool(drawn) == any(math.isfinite(value) for value in values)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_number_of_milliseconds_has_a_moment(at_ms: int) -> None:
    assert fmt.moment(at_ms)
    assert fmt.clock_time(at_ms, UTC).endswith(" UTC")


def test_a_rising_sparkline_rises() -> None:
    assert fmt.sparkline([1, 2, 3, 4, 5, 6, 7, 8], 8) == "▁▂▃▄▅▆▇█"


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.floats()), min_size=1, max_size=50, unique_by=lambda p: p[0]),
    st.integers(20, 120),
)
def test_a_chart_takes_any_series_and_fits_its_width(points: list[tuple[int, float]], width: int) -> None:
    points.sort()
    drawn = chart(Line([x for x, _ in points], [y for _, y in points]), width, 14)
    assert bool(drawn) == any(math.isfinite(y) for _, y in points)
    assert all(len(line) <= max(width, 31) for line in drawn.splitlines())


@given(st.floats(0, 1), st.integers(1, 50))
def test_a_bar_is_as_long_as_its_share(share: float, width: int) -> None:
    drawn = fmt.bar(share, width)
    assert abs(len(drawn) - share * width) <= 1


@pytest.mark.parametrize(("text", "ms"), [("90s", 90_000), ("30m", 1_800_000), ("2h", 7_200_000), ("3d", 259_200_000)])
def test_time_spans(text: str, ms: int) -> None:
    assert parse_span_ms(text) == ms


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "0h", "2 weeks"])
def test_what_is_no_time_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CliError, match="write for example 30m"):
        parse_span_ms(text)


def test_a_label_may_hold_an_equals_sign_and_must_have_a_key() -> None:
    assert parse_labels(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(CliError, match="key=value"):
        parse_labels(["=x"])
