"""The batch fold: events of the log in, attempts and adjustments out."""

from dataclasses import dataclass, field

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import (
    JobAssigned,
    JobFailed,
    JobFinished,
    JobKilled,
    JobOutcomeCorrected,
    JobReachable,
    JobStarted,
    JobUnreachable,
)
from protos.events.v1.workspace_pb2 import MinutesAdjusted
from services.quota.domain.attempt import Attempt, AttemptEvent, evolve, unknown
from services.quota.domain.minutes import MS_MICROS_PER_MILLIMINUTE

ATTEMPT_EVENTS: dict[str, type[AttemptEvent]] = {
    event.DESCRIPTOR.name: event
    for event in (
        JobAssigned,
        JobStarted,
        JobUnreachable,
        JobReachable,
        JobFinished,
        JobFailed,
        JobKilled,
        JobOutcomeCorrected,
    )
}

# All that minutes are made of; a replay needs no other event.
MINUTES_EVENTS = (*ATTEMPT_EVENTS, MinutesAdjusted.DESCRIPTOR.name)


@dataclass(slots=True)
class Ledger:
    """Accumulates a batch; afterwards it is a plain value. Delivery order and repetition make no difference."""

    # By attempt id.
    attempts: dict[str, Attempt] = field(default_factory=dict)
    # By position of the event, which makes a repeat harmless: workspace, period, ms × millionths.
    adjustments: dict[int, tuple[str, str, int]] = field(default_factory=dict)

    def take(self, record: EventRecord) -> None:
        """Fold one event; one that has nothing to do with minutes changes nothing."""
        if record.type in ATTEMPT_EVENTS:
            payload = record.payload.value
            fold_into(self.attempts, record.workspace_id, record.stream_id, record.position, record.type, payload)
        elif record.type == "MinutesAdjusted":
            adjusted = MinutesAdjusted.FromString(record.payload.value)
            amount = adjusted.milliminutes * MS_MICROS_PER_MILLIMINUTE
            self.adjustments[record.position] = (record.workspace_id, adjusted.period, amount)


def fold_into(
    attempts: dict[str, Attempt], workspace_id: str, job_id: str, position: int, name: str, payload: bytes
) -> None:
    """Fold one event of a job, of a type in ATTEMPT_EVENTS, into the attempts by their ids."""
    event = ATTEMPT_EVENTS[name].FromString(payload)
    attempt_id = event.attempt_id
    if attempt_id:  # a job that ends before it was assigned has no attempt, and costs nothing
        known = attempts.get(attempt_id) or unknown(workspace_id, job_id)
        attempts[attempt_id] = evolve(known, event, position)
