"""Quotas: when a workspace's minutes are used up, and what is announced then."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from protos.events.v1.workspace_pb2 import QuotaExhausted, QuotaReplenished, QuotaThresholdReached
from services.quota.domain.attempt import Attempt, interval
from services.quota.domain.minutes import MS_MICROS_PER_MILLIMINUTE, bounds, to_milliminutes

THRESHOLDS_PERCENT = (75, 90, 100)
# Trainings that are being stopped settle a moment below what they had accrued. If each such moment opened the door,
# the waiting jobs would be started one by one, only to be stopped within seconds.
LEAST_LEFT_MILLIMINUTES = 1000


@dataclass(frozen=True, slots=True)
class Budget:
    """A workspace's quota in one month, and all that has been used of it, as known at `position`."""

    period: str
    position: int
    quota_milliminutes: int
    # Attempts that have ended, and adjustments; ms × millionths.
    settled_ms_micros: int
    running: Sequence[Attempt]
    # Thresholds that were announced in this period.
    reached_percent: frozenset[int]
    # QuotaExhausted was said in this period, and since then neither QuotaReplenished nor a new quota.
    exhausted: bool


def used(budget: Budget, now_ms: int) -> int:
    """Charged in the period, running attempts included, in ms × millionths."""
    return budget.settled_ms_micros + accrued(budget.running, budget.period, now_ms)


def accrued(running: Sequence[Attempt], period: str, now_ms: int) -> int:
    """What running attempts have accrued within a month, in ms × millionths."""
    return _accrued(_spans(running, period), now_ms)


def accrues_in(attempt: Attempt, period: str, now_ms: int) -> bool:
    """Whether a running attempt's interval, as known now, touches the month."""
    start_ms, end_ms = bounds(period)
    known = interval(attempt, now_ms)
    return known.started_at_ms < end_ms and known.charged_until_ms >= start_ms


# One running attempt within a month: from, until at most (both ms), rate.
_Span = tuple[int, int, int]


def _spans(running: Sequence[Attempt], period: str) -> list[_Span]:
    start_ms, end_ms = bounds(period)
    farthest = [interval(attempt, end_ms) for attempt in running]
    return [
        (max(known.started_at_ms, start_ms), known.charged_until_ms, attempt.rate_micros)
        for attempt, known in zip(running, farthest, strict=True)
    ]


def _accrued(spans: list[_Span], now_ms: int) -> int:
    return sum(max(min(now_ms, until_ms) - from_ms, 0) * rate_micros for from_ms, until_ms, rate_micros in spans)


def reaches(ms_micros: int, quota_milliminutes: int, percent: int = 100) -> bool:
    """Whether what is used is `percent` of the quota or more; exact."""
    return 100 * ms_micros >= percent * quota_milliminutes * MS_MICROS_PER_MILLIMINUTE


def _worth_opening(ms_micros: int, quota_milliminutes: int) -> bool:
    """Whether what is left is a minute, or the whole of a smaller quota."""
    left = quota_milliminutes * MS_MICROS_PER_MILLIMINUTE - ms_micros
    return left > 0 and left >= min(LEAST_LEFT_MILLIMINUTES, quota_milliminutes) * MS_MICROS_PER_MILLIMINUTE


def decide(budget: Budget, now_ms: int) -> list[Message]:
    """What is to be announced: each threshold once in a period, and the change between used up and not.

    A new quota takes back what was said of the old one; otherwise exhaustion ends only with QuotaReplenished, where a
    refund or a correction has brought a minute or more back, however it came.
    """
    ms_micros = used(budget, now_ms)
    shown, quota = to_milliminutes(ms_micros), budget.quota_milliminutes
    events: list[Message] = [
        QuotaThresholdReached(period=budget.period, percent=percent, used_milliminutes=shown, quota_milliminutes=quota)
        for percent in THRESHOLDS_PERCENT
        if percent not in budget.reached_percent and reaches(ms_micros, quota, percent)
    ]
    change: type[QuotaExhausted | QuotaReplenished] | None = None
    if not budget.exhausted and reaches(ms_micros, quota):
        change = QuotaExhausted
    elif budget.exhausted and _worth_opening(ms_micros, quota):
        change = QuotaReplenished
    if change is not None:
        events.append(
            change(period=budget.period, position=budget.position, used_milliminutes=shown, quota_milliminutes=quota)
        )
    return events


def due_at_ms(budget: Budget, now_ms: int) -> int:
    """The next moment, not before `now_ms`, at which there is something to decide if no event comes in between.

    That is where the running attempts' accrual reaches the lowest level that was not announced, or else the end of
    the month, where all begins anew.
    """
    _, end_ms = bounds(budget.period)
    levels = [percent for percent in THRESHOLDS_PERCENT if percent not in budget.reached_percent]
    if not budget.exhausted:
        levels.append(100)
    if not levels:
        return end_ms
    # 100 × used ≥ percent × quota, so used must reach this, rounded up.
    target = -(-min(levels) * budget.quota_milliminutes * MS_MICROS_PER_MILLIMINUTE // 100)
    return min(_reached_at_ms(budget, target, now_ms), end_ms)


def _reached_at_ms(budget: Budget, target: int, now_ms: int) -> int:
    """The first moment from `now_ms` to the end of the month at which `used` is at least `target`.

    `used` never falls and is computed exactly, so a binary search finds it to the millisecond, whatever caps and
    starts there are. Where it is not reached, the answer is the end of the month.
    """
    _, end_ms = bounds(budget.period)
    spans = _spans(budget.running, budget.period)
    missing = target - budget.settled_ms_micros
    low_ms, high_ms = now_ms, max(end_ms, now_ms)
    if _accrued(spans, high_ms) < missing:
        return high_ms
    while low_ms < high_ms:
        middle_ms = (low_ms + high_ms) // 2
        if _accrued(spans, middle_ms) >= missing:
            high_ms = middle_ms
        else:
            low_ms = middle_ms + 1
    return low_ms
