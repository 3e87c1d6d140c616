"""Histories of attempts for the tests of minutes, and the charge by another way than the service's."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import Message
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.training.v1.training_pb2 import EndReason
from services.quota.domain.attempt import Attempt, settled_by_period

# 2026-11-15, so that a month ends within reach.
NOON_MS = 1_794_744_000_000
DAY_MS = 86_400_000


def interval(start_ms: int, until_ms: int, presumed: bool = False) -> job.ChargedInterval:
    return job.ChargedInterval(
        started_at_ms=start_ms, charged_until_ms=until_ms, ended_at_ms=until_ms + 900, presumed=presumed
    )


def assigned(attempt_id: str, rate_micros: int = 1_000_000, simulated: bool = False) -> job.JobAssigned:
    return job.JobAssigned(
        attempt_id=attempt_id, runner_id="rn_1", runner_name="box", rate_micros=rate_micros, simulated=simulated
    )


def record(position: int, job_id: str, event: Message, workspace_id: str = "ws_1", kind: str = "job") -> EventRecord:
    made = EventRecord(
        position=position,
        workspace_id=workspace_id,
        stream_kind=kind,
        stream_id=job_id,
        type=event.DESCRIPTOR.name,
    )
    made.payload.value = event.SerializeToString()
    return made


@dataclass(frozen=True)
class History:
    """One attempt's facts in the order in which they happened."""

    attempt_id: str
    job_id: str
    events: tuple[Message, ...]


@st.composite
def histories(draw: st.DrawFn, attempt_id: str = "at_1") -> History:
    """Assigned; perhaps started, cut off, reached again; perhaps ended; perhaps corrected, more than once."""
    gap = st.integers(0, 40 * DAY_MS)
    events: list[Message] = [assigned(attempt_id, draw(st.integers(1, 20_000_000)))]
    at_ms = NOON_MS + draw(gap)
    start_ms = 0
    if draw(st.booleans()):
        start_ms = at_ms
        events.append(job.JobStarted(attempt_id=attempt_id, started_at_ms=start_ms))
        for _ in range(draw(st.integers(0, 2))):
            at_ms += draw(gap)
            events.append(
                job.JobUnreachable(attempt_id=attempt_id, last_contact_at_ms=at_ms, deadline_at_ms=at_ms + 900_000)
            )
            if draw(st.booleans()):
                events.append(job.JobReachable(attempt_id=attempt_id, cut_off_ms=60_000))
    if draw(st.booleans()):
        charged = interval(start_ms, at_ms + draw(gap), draw(st.booleans()))
        killed = job.JobKilled(attempt_id=attempt_id, interval=charged, reason=EndReason.END_REASON_CONNECTION_LOST)
        failed = job.JobFailed(attempt_id=attempt_id, interval=charged, reason=EndReason.END_REASON_INFRASTRUCTURE)
        finished = job.JobFinished(attempt_id=attempt_id, interval=charged)
        events.append(draw(st.sampled_from([killed, failed, finished])))
        for _ in range(draw(st.integers(0, 2))):
            truth = interval(start_ms, start_ms + draw(gap))
            events.append(job.JobOutcomeCorrected(attempt_id=attempt_id, interval=truth, finished=job.JobFinished()))
    return History(attempt_id, f"jb_of_{attempt_id}", tuple(events))


def slow_charge(history: Iterable[Message], now_ms: int) -> dict[str, int]:
    """The charge by month straight from the rules of compute minutes, hour by hour; shares nothing with the service."""
    start_ms = until_ms = rate_micros = deadline_ms = 0
    ended = False
    for event in history:
        if isinstance(event, job.JobAssigned):
            rate_micros = event.rate_micros
        elif isinstance(event, job.JobStarted):
            start_ms = event.started_at_ms
        elif isinstance(event, job.JobUnreachable):
            deadline_ms = event.deadline_at_ms
        elif isinstance(event, job.JobReachable):
            deadline_ms = 0
        elif isinstance(event, job.JobFinished | job.JobFailed | job.JobKilled | job.JobOutcomeCorrected):
            ended = True
            start_ms, until_ms = event.interval.started_at_ms, event.interval.charged_until_ms
    if not ended:
        until_ms = min(now_ms, deadline_ms) if deadline_ms else now_ms
    months: dict[str, int] = {}
    while start_ms and start_ms < until_ms:
        step_ms = min(3_600_000 - start_ms % 3_600_000, until_ms - start_ms)
        month = datetime.fromtimestamp(start_ms // 1000, UTC).strftime("%Y-%m")
        months[month] = months.get(month, 0) + step_ms * rate_micros
        start_ms += step_ms
    return months


def settled_totals(attempts: Iterable[Attempt]) -> dict[str, int]:
    """What attempts that have ended cost in each period, in ms × millionths."""
    totals: dict[str, int] = {}
    for attempt in attempts:
        for period, ms_micros in settled_by_period(attempt).items():
            totals[period] = totals.get(period, 0) + ms_micros
    return totals
