"""The event log and the aggregates, in memory: streams with versions, appended to all or nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from services.quota.domain import attempt as minutes
from services.quota.domain.ledger import ATTEMPT_EVENTS
from services.scheduler.domain import job as jobs
from services.scheduler.domain import runner as runners
from services.scheduler.domain.job import Job
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.runner import Runner
from tests.simulation.world import World

WORKSPACE = "ws_1"
_EVOLVE: dict[str, Callable[[Any, Message, Envelope], Any]] = {"runner": runners.evolve, "job": jobs.evolve}


@dataclass(frozen=True, slots=True)
class Record:
    position: int
    kind: str
    stream_id: str
    event: Message
    at_ms: int

    def __str__(self) -> str:
        return f"  {self.stream_id}: {type(self.event).__name__} {self.event}"


@dataclass
class Log:
    """What PostgreSQL holds. `on_append` hears of each record, in order."""

    world: World
    records: list[Record] = field(default_factory=list)
    runners: dict[str, Runner] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    # The quota service's fold of every attempt.
    charges: dict[str, minutes.Attempt] = field(default_factory=dict)
    # Replica → end of its lease, true time in ns.
    leases: dict[str, int] = field(default_factory=dict)
    on_append: list[Callable[[Record], None]] = field(default_factory=list)
    # Jobs that are not over.
    open_jobs: dict[str, Job] = field(default_factory=dict)
    away: bool = False

    def append(self, kind: str, stream_id: str, events: Sequence[Message], actor: str = "service:scheduler") -> None:
        aggregates: dict[str, Any] = self.runners if kind == "runner" else self.jobs
        for event in events:
            state = aggregates.get(stream_id)
            position = len(self.records) + 1
            version = state.version + 1 if state is not None else 1
            at = Envelope(stream_id, WORKSPACE, version, self.world.now_ms, actor, position)
            aggregates[stream_id] = _EVOLVE[kind](state, event, at)
            if type(event).__name__ in ATTEMPT_EVENTS:
                attempt_id = event.attempt_id  # type: ignore[attr-defined]
                if attempt_id:
                    known = self.charges.get(attempt_id) or minutes.unknown(WORKSPACE, stream_id)
                    self.charges[attempt_id] = minutes.evolve(known, event, position)  # type: ignore[arg-type]
            if kind == "job":
                self._note_job(self.jobs[stream_id])
            record = Record(position, kind, stream_id, event, self.world.now_ms)
            self.records.append(record)
            self.world.trace.append((self.world.now, record))
            for told in self.on_append:
                told(record)

    def _note_job(self, job: Job) -> None:
        if job.over:
            self.open_jobs.pop(job.job_id, None)
        else:
            self.open_jobs[job.job_id] = job

    def charged_ms(self, attempt_id: str) -> int:
        """What the ledger counts for the attempt now, before its rate."""
        attempt = self.charges.get(attempt_id)
        if attempt is None:
            return 0
        known = minutes.interval(attempt, self.world.now_ms)
        return max(0, known.charged_until_ms - known.started_at_ms) if known.started_at_ms else 0
