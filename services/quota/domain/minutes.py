"""Units of what is charged, and calendar months.

A charge is exact: milliseconds × rate, where the rate is in millionths of a minute a minute (`rate_micros`). One minute
at rate 1 is 60,000 ms × 10^6, so

    milliminutes = round(ms × rate_micros / (60 × 10^6))

rounded half up, once, where it is shown. Nothing else is ever rounded.
"""

import re
from calendar import monthrange
from datetime import date
from functools import lru_cache

# A thousandth of a minute at rate 1, in ms × millionths.
MS_MICROS_PER_MILLIMINUTE = 60 * 10**6

_DAY_MS = 86_400_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
# The calendar ends with the year 9999; no moment is later.
END_OF_TIME_MS = (date(9999, 12, 31).toordinal() + 1 - _EPOCH_DAY) * _DAY_MS

_PERIOD = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


def to_milliminutes(ms_micros: int) -> int:
    """Minutes × 1000 of an exact sum, rounded half up."""
    return (ms_micros + MS_MICROS_PER_MILLIMINUTE // 2) // MS_MICROS_PER_MILLIMINUTE


@lru_cache(maxsize=4096)
def _month_of_day(day: int) -> tuple[str, int, int]:
    """Period, start and end in ms of the month that holds a day; days count from 1970-01-01."""
    first = date.fromordinal(_EPOCH_DAY + day).replace(day=1)
    start = first.toordinal() - _EPOCH_DAY
    end = start + monthrange(first.year, first.month)[1]
    return f"{first.year:04d}-{first.month:02d}", start * _DAY_MS, end * _DAY_MS


def period_of(at_ms: int) -> str:
    """The calendar month (UTC) of a moment, for example `2026-11`."""
    return _month_of_day(min(max(at_ms, 0), END_OF_TIME_MS - 1) // _DAY_MS)[0]


def bounds(period: str) -> tuple[int, int]:
    """First millisecond of a month, and of the month after it. Raises ValueError for what is not `YYYY-MM`."""
    found = _PERIOD.fullmatch(period)
    if not found or int(found[1]) < 1970:
        raise ValueError(f"{period} is not a calendar month from 1970-01 to 9999-12")
    day = date(int(found[1]), int(found[2]), 1).toordinal() - _EPOCH_DAY
    _, start_ms, end_ms = _month_of_day(day)
    return start_ms, end_ms


def by_period(start_ms: int, end_ms: int, rate_micros: int) -> dict[str, int]:
    """What [start, end) costs in each month that it touches, in ms × millionths. Bounds as for `split`."""
    if end_ms <= start_ms:
        return {}
    period, _, month_end_ms = _month_of_day(start_ms // _DAY_MS)
    if end_ms <= month_end_ms:
        return {period: (end_ms - start_ms) * rate_micros}
    return {part: ms * rate_micros for part, ms in split(start_ms, end_ms)}


def split(start_ms: int, end_ms: int) -> list[tuple[str, int]]:
    """The milliseconds of [start, end) that fall into each month, in order; they add up to the whole.

    Empty where the end is not after the start. Both must be from 0 to END_OF_TIME_MS.
    """
    parts: list[tuple[str, int]] = []
    while start_ms < end_ms:
        period, _, month_end_ms = _month_of_day(start_ms // _DAY_MS)
        until_ms = min(end_ms, month_end_ms)
        parts.append((period, until_ms - start_ms))
        start_ms = until_ms
    return parts
