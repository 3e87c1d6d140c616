"""Compute minutes a second time, slowly and from the rules alone: nothing of it comes from services/quota.

    minutes = real minutes × Σ over the runner's GPUs of the GPU's multiplier × 1.5 if advanced evaluation

Minutes are exact Fractions, moments are datetimes, and time is cut at calendar months. Only the events' own words are
used: the multipliers of the GPUs and not the rate, the last contact and the window and not the deadline.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2, workspace_pb2

# (workspace, month such as `2026-11`) → minutes.
ByMonth = Mapping[tuple[str, str], Fraction]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OUTCOMES: Mapping[str, Any] = {
    "JobFinished": job_pb2.JobFinished,
    "JobFailed": job_pb2.JobFailed,
    "JobKilled": job_pb2.JobKilled,
}


def minutes_by_month(records: Iterable[EventRecord], now_ms: int) -> ByMonth:
    """What each workspace is charged in each month as the records tell it, running trainings up to `now_ms`.

    Adjustments count. Months that come to nothing are left out.
    """
    log = _in_order(records)
    totals: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for (workspace_id, month, _), minutes in minutes_by_job(log, now_ms).items():
        totals[workspace_id, month] += minutes
    for record in log:
        if record.type == "MinutesAdjusted":
            adjusted = workspace_pb2.MinutesAdjusted.FromString(record.payload.value)
            totals[record.workspace_id, adjusted.period] += Fraction(adjusted.milliminutes, 1000)
    return {key: minutes for key, minutes in totals.items() if minutes}


def minutes_by_job(records: Iterable[EventRecord], now_ms: int) -> Mapping[tuple[str, str, str], Fraction]:
    """The same by (workspace, month, job), without adjustments."""
    totals: dict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
    for (workspace_id, job_id, _), life in _lives(_in_order(records)).items():
        start, end = _charged_time(life, _moment(now_ms))
        for month, length in _months(start, end):
            totals[workspace_id, month, job_id] += _minutes(length) * _multiplier(life)
    return {key: minutes for key, minutes in totals.items() if minutes}


def _in_order(records: Iterable[EventRecord]) -> list[EventRecord]:
    """Each position once, the log's order, whatever came when."""
    once = {record.position: record for record in records}
    return [once[position] for position in sorted(once)]


def _lives(log: Iterable[EventRecord]) -> dict[tuple[str, str, str], list[tuple[str, bytes]]]:
    """(workspace, job, attempt) → what happened to the attempt, in order: name of the event, content."""
    lives: dict[tuple[str, str, str], list[tuple[str, bytes]]] = defaultdict(list)
    for record in log:
        event_class: Any = getattr(job_pb2, record.type, None)
        if record.stream_kind == "job" and event_class is not None:
            attempt_id = getattr(event_class.FromString(record.payload.value), "attempt_id", "")
            if attempt_id:
                lives[record.workspace_id, record.stream_id, attempt_id].append((record.type, record.payload.value))
    return lives


def _charged_time(life: list[tuple[str, bytes]], now: datetime) -> tuple[datetime, datetime]:
    """From the start of the process to its end or to the moment its stop began; nothing: two equal moments."""
    corrections = [content for name, content in life if name == "JobOutcomeCorrected"]
    outcomes = [_OUTCOMES[name].FromString(content).interval for name, content in life if name in _OUTCOMES]
    if corrections:
        interval = job_pb2.JobOutcomeCorrected.FromString(corrections[-1]).interval
    elif outcomes:
        interval = outcomes[0]
    else:
        return _running_time(life, now)
    if interval.started_at_ms == 0:
        return now, now
    return _moment(interval.started_at_ms), _moment(interval.charged_until_ms)


def _running_time(life: list[tuple[str, bytes]], now: datetime) -> tuple[datetime, datetime]:
    starts = [job_pb2.JobStarted.FromString(content) for name, content in life if name == "JobStarted"]
    if not starts:
        return now, now
    end = now
    links = [(name, content) for name, content in life if name in ("JobUnreachable", "JobReachable")]
    if links and links[-1][0] == "JobUnreachable":
        silent = job_pb2.JobUnreachable.FromString(links[-1][1])
        window = timedelta(milliseconds=_assigned(life).window_ms)
        end = min(now, _moment(silent.last_contact_at_ms) + window)
    return _moment(starts[0].started_at_ms), end


def _multiplier(life: list[tuple[str, bytes]]) -> Fraction:
    assigned = _assigned(life)
    gpus = sum((Fraction(gpu.multiplier_micros, 10**6) for gpu in assigned.gpus), Fraction(0))
    return gpus * Fraction(assigned.evaluation_factor_micros, 10**6)


def _assigned(life: list[tuple[str, bytes]]) -> job_pb2.JobAssigned:
    return next(job_pb2.JobAssigned.FromString(content) for name, content in life if name == "JobAssigned")


def _months(start: datetime, end: datetime) -> Iterable[tuple[str, timedelta]]:
    """The calendar months (UTC) that the time touches, and how much of it lies in each."""
    year, month = start.year, start.month
    while (first := datetime(year, month, 1, tzinfo=UTC)) < end:
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        length = min(end, datetime(year, month, 1, tzinfo=UTC)) - max(start, first)
        if length > timedelta(0):
            yield f"{first:%Y-%m}", length


def _minutes(length: timedelta) -> Fraction:
    return Fraction(length // timedelta(microseconds=1), 60 * 10**6)


def _moment(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)
