"""The batch fold: events of the log in, attempts and adjustments out."""

from collections.abc import Iterable
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
from services.quota.domain.attempt import Attempt, AttemptEvent, evolve, settled_by_period, unknown
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
        event_class = ATTEMPT_EVENTS.get(record.type)
        if event_class is not None:
            self.evolve(record, event_class.FromString(record.payload.value))
        elif record.type == "MinutesAdjusted":
            adjusted = MinutesAdjusted.FromString(record.payload.value)
            amount = adjusted.milliminutes * MS_MICROS_PER_MILLIMINUTE
            self.adjustments[record.position] = (record.workspace_id, adjusted.period, amount)

    def evolve(self, record: EventRecord, event: AttemptEvent) -> None:
        """Fold the event that the record carries."""
        attempt_id = event.attempt_id
        if attempt_id:  # a job that ends before it was assigned has no attempt, and costs nothing
            known = self.attempts.get(attempt_id) or unknown(record.workspace_id, record.stream_id)
            self.attempts[attempt_id] = evolve(known, event, record.position)


def settled_totals(attempts: Iterable[Attempt]) -> dict[str, int]:
    """What attempts that have ended cost in each period, in ms × millionths."""
    totals: dict[str, int] = {}
    for attempt in attempts:
        for period, ms_micros in settled_by_period(attempt).items():
            totals[period] = totals.get(period, 0) + ms_micros
    return totals
