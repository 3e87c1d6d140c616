"""Aggregates as they were: their own fold over their streams, up to a position of the log."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.catalogue import COLUMNS, EventRow, payload_of
from services.postgres import Pool
from services.scheduler.domain import job as jobs
from services.scheduler.domain import runner as runners
from services.scheduler.domain.job import Job
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.runner import Runner
from services.scheduler.serde import dump, load
from services.scheduler.snapshots import Snapshot, Snapshots, Start, fingerprint_of
from services.scheduler.store import envelope_of

# Streams that are read together, and events that are folded before others get their turn (about 10 ms).
_STREAMS = 50
_EVENTS = 500


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    type: type[Any]
    evolve: Callable[[Any, Message, Envelope], Any]
    fingerprint: bytes


class History:
    """Reads the log up to a position, so its answers never change. Safe on every replica, however far it is."""

    def __init__(self, pool: Pool, snapshots: Snapshots) -> None:
        self._pool, self._snapshots = pool, snapshots
        self._runner = _Kind("runner", Runner, runners.evolve, fingerprint_of(Runner))
        self._job = _Kind("job", Job, jobs.evolve, fingerprint_of(Job))

    async def runners(self, runner_ids: Sequence[str], position: int) -> list[Runner]:
        """Those that there were, in the order of the ids."""
        return cast("list[Runner]", await self._as_of(self._runner, runner_ids, position))

    async def jobs(self, job_ids: Sequence[str], position: int) -> list[Job]:
        """Those that there were, in the order of the ids."""
        return cast("list[Job]", await self._as_of(self._job, job_ids, position))

    async def _as_of(self, kind: _Kind, ids: Sequence[str], position: int) -> list[Any]:
        states = []
        for first in range(0, len(ids), _STREAMS):
            some = ids[first : first + _STREAMS]
            starts = await self._snapshots.starts(kind.name, some, position, kind.fingerprint)
            folds = [_Fold(kind, id_, starts[id_]) for id_ in some if id_ in starts]
            await self._replay(kind, folds, position)
            for fold in folds:
                if fold.replayed > self._snapshots.every and fold.made:
                    await self._snapshots.keep(kind.name, fold.id, kind.fingerprint, fold.step, fold.made)
            states += [fold.state for fold in folds if fold.state is not None]
        return states

    async def _replay(self, kind: _Kind, folds: Sequence["_Fold"], position: int) -> None:
        """Bring each up to the position."""
        behind = list(folds)
        while behind:
            window = max(_EVENTS // len(behind), 1)
            rows = await self._pool.fetch(
                # A window of versions, not a limit of rows: behind the position there may be any number of events.
                "select e.* from unnest($1::text[], $2::bigint[], $3::bigint[]) with ordinality "
                "as wanted (id, version, position, number), lateral ("
                f"select {COLUMNS} from eventlog.events where stream_id = wanted.id and stream_kind = $5 "
                "and stream_version > wanted.version and stream_version <= wanted.version + $4 "
                "and position > wanted.position and position <= $6) e order by wanted.number, e.stream_version",
                [fold.id for fold in behind],
                [fold.version for fold in behind],
                [fold.position for fold in behind],
                window,
                kind.name,
                position,
            )
            known = {fold.id: (fold, fold.version) for fold in behind}
            for row in rows:
                record = EventRow(*row).record()
                known[record.stream_id][0].take(record)
            behind = [fold for fold, before in known.values() if fold.version == before + window]


class _Fold:
    """One aggregate on its way to the position."""

    def __init__(self, kind: _Kind, id_: str, start: Start) -> None:
        snapshot = start.snapshot
        self._evolve, self.id, self.step = kind.evolve, id_, start.step
        self.version, self.position = snapshot.version, snapshot.position
        self.state: Any = load(snapshot.state, kind.type) if snapshot.state is not None else None
        self.replayed = 0
        self.made: list[Snapshot] = []

    def take(self, record: EventRecord) -> None:
        self.state = self._evolve(self.state, payload_of(record), envelope_of(record))
        self.version, self.position = record.stream_version, record.position
        self.replayed += 1
        if self.version % self.step == 0:
            self.made.append(Snapshot(self.version, self.position, dump(self.state)))
