"""Units and months: exact sums, one rounding, UTC month ends."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.quota.domain.minutes import END_OF_TIME_MS, bounds, period_of, split, to_milliminutes

moments = st.integers(0, END_OF_TIME_MS)


def ms(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1000


@given(st.integers(0, 10**12), st.integers(0, 10**9))
def test_milliminutes_are_the_exact_product_rounded_half_up(duration_ms: int, rate_micros: int) -> None:
    minutes = Fraction(duration_ms, 60_000) * Fraction(rate_micros, 10**6)
    shown = to_milliminutes(duration_ms * rate_micros)
    assert shown - minutes * 1000 <= Fraction(1, 2)
    assert minutes * 1000 - shown < Fraction(1, 2)


def test_one_hour_on_one_t4_is_sixty_minutes() -> None:
    assert to_milliminutes(3_600_000 * 1_000_000) == 60_000


def test_half_a_milliminute_rounds_up() -> None:
    assert [to_milliminutes(n * 1_000_000) for n in (29, 30, 89, 90)] == [0, 1, 1, 2]


@given(moments, st.integers(0, 5 * 366 * 86_400_000))
def test_the_parts_of_a_split_are_its_months_and_add_up(start_ms: int, length_ms: int) -> None:
    end_ms = min(start_ms + length_ms, END_OF_TIME_MS)
    parts = split(start_ms, end_ms)
    assert sum(part for _, part in parts) == end_ms - start_ms
    assert [period for period, _ in parts] == sorted({period for period, _ in parts})
    for period, part in parts:
        first_ms, next_ms = bounds(period)
        assert 0 < part == min(end_ms, next_ms) - max(start_ms, first_ms)


@given(moments, moments)
def test_nothing_lies_between_an_end_and_a_later_start(one_ms: int, other_ms: int) -> None:
    assert split(max(one_ms, other_ms), min(one_ms, other_ms)) == []


@given(st.integers(0, END_OF_TIME_MS - 1))
def test_a_moment_lies_within_its_month(at_ms: int) -> None:
    start_ms, end_ms = bounds(period_of(at_ms))
    assert start_ms <= at_ms < end_ms


def test_months_end_in_utc_leap_days_included() -> None:
    assert bounds("2024-02") == (ms(2024, 2, 1), ms(2024, 3, 1))
    assert split(ms(2024, 2, 29, 23), ms(2024, 3, 1, 2)) == [("2024-02", 3_600_000), ("2024-03", 7_200_000)]
    assert split(ms(2025, 12, 31, 23), ms(2026, 1, 1)) == [("2025-12", 3_600_000)]


@pytest.mark.parametrize(
    "period", ["", "2026", "2026-13", "2026-00", "2026-1", "1969-12", "2026-11 ", "२०२६-११", "2026-11\n"]
)
def test_what_is_no_month_is_refused(period: str) -> None:
    with pytest.raises(ValueError, match="is not a calendar month"):
        bounds(period)
