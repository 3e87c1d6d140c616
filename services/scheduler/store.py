"""Aggregates: loaded from their rows, kept in memory, and written in the transaction that appends their events."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.catalogue import payload_of
from services.eventlog.read import read_stream
from services.postgres import Connection, Pool
from services.scheduler import job_lists
from services.scheduler.domain import artifact as artifacts
from services.scheduler.domain import job as jobs
from services.scheduler.domain import runner as runners
from services.scheduler.domain import workspace as workspaces
from services.scheduler.domain.artifact import Artifact
from services.scheduler.domain.job import Job
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.runner import Runner
from services.scheduler.domain.workspace import Workspace
from services.scheduler.serde import dump, load

Aggregate: TypeAlias = Runner | Job | Workspace | Artifact
Key = tuple[str, str]

# Aggregates kept in memory; the rest is one row away.
_MAX_CACHED = 50_000


@dataclass(frozen=True, slots=True)
class _Kind:
    type: type[Any]
    evolve: Callable[[Any, Message, Envelope], Any]
    table: str
    key: str
    # Columns besides key, workspace, version and state, with their values.
    columns: Callable[[Any], dict[str, Any]]
    # Other services append to these streams too; the rest is written with every one of its events.
    shared: bool = False


_KINDS = {
    "workspace": _Kind(
        Workspace, workspaces.evolve, "workspaces", "workspace_id", lambda w: {"name": w.name}, shared=True
    ),
    "runner": _Kind(
        Runner,
        runners.evolve,
        "runners",
        "runner_id",
        lambda r: {
            "workspace_id": r.workspace_id,
            "name": r.name,
            "status": r.status,
            "connected": r.connected,
            "replica": r.replica,
            "uninstalled": r.uninstalled,
            "suspended_until_ms": min((s.until_ms for s in r.suspensions if s.until_ms), default=0),
        },
    ),
    "job": _Kind(
        Job,
        jobs.evolve,
        "jobs",
        "job_id",
        lambda j: {
            "workspace_id": j.workspace_id,
            "state_code": j.state,
            "runner_id": j.runner_id or j.requested_runner_id,
            "submitted_position": j.position,
            "waits_for_retry": j.waits_for_retry,
            **job_lists.columns(j),
        },
    ),
    "artifact": _Kind(
        Artifact,
        artifacts.evolve,
        "artifacts",
        "artifact_id",
        lambda a: {"job_id": a.job_id, "is_checkpoint": a.kind == artifacts.CHECKPOINT, "there": a.there},
        shared=True,
    ),
}


def envelope_of(record: EventRecord) -> Envelope:
    return Envelope(
        record.stream_id,
        record.workspace_id,
        record.stream_version,
        record.recorded_at_us // 1000,
        record.actor,
        record.position,
        record.correlation_id,
    )


class Store:
    """All aggregates of the scheduler. One that is behind the log conflicts when its version is appended to."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._cache: OrderedDict[Key, Aggregate] = OrderedDict()
        # Folded in a transaction that may still fail.
        self._uncommitted: dict[Key, Aggregate] = {}

    async def runner(self, runner_id: str) -> Runner | None:
        return cast("Runner | None", await self._load("runner", runner_id))

    async def job(self, job_id: str) -> Job | None:
        return cast("Job | None", await self._load("job", job_id))

    async def workspace(self, workspace_id: str) -> Workspace | None:
        return cast("Workspace | None", await self._load("workspace", workspace_id))

    async def artifact(self, artifact_id: str) -> Artifact | None:
        return cast("Artifact | None", await self._load("artifact", artifact_id))

    def forget(self, kind: str, stream_id: str) -> None:
        """Load it afresh next time."""
        self._cache.pop((kind, stream_id), None)

    async def _load(self, kind: str, stream_id: str) -> Aggregate | None:
        cached = self._cache.get((kind, stream_id))
        if cached is not None:
            self._cache.move_to_end((kind, stream_id))
            return cached
        async with self._pool.acquire() as connection:
            found = await self._read(connection, kind, stream_id)
        if found is not None:
            self._remember((kind, stream_id), found)
        return found

    async def _read(
        self, connection: Connection, kind: str, stream_id: str, before_version: int | None = None
    ) -> Aggregate | None:
        """The row, and where others append to such streams, what the log has after it."""
        of = _KINDS[kind]
        text = await connection.fetchval(f"select state from scheduler.{of.table} where {of.key} = $1", stream_id)
        state = load(text, of.type) if text is not None else None
        after = state.version if state is not None else 0
        if of.shared and (before_version is None or after < before_version - 1):
            for record in await read_stream(connection, kind, stream_id, after):
                if before_version is None or record.stream_version < before_version:
                    state = of.evolve(state, payload_of(record), envelope_of(record))
        return cast("Aggregate | None", state)

    def _remember(self, key: Key, state: Aggregate) -> None:
        known = self._cache.get(key)
        if known is None or known.version <= state.version:
            self._cache[key] = state
            self._cache.move_to_end(key)
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)

    async def project(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        """Fold the records and write their aggregates' rows, in the transaction that appends them."""
        folded: dict[Key, Aggregate] = {}
        for record in records:
            key = (record.stream_kind, record.stream_id)
            of = _KINDS[record.stream_kind]
            state: Aggregate | None = folded.get(key) or self._cache.get(key)
            if state is None or state.version != record.stream_version - 1:
                state = None
                if record.stream_version > 1:
                    state = await self._read(connection, *key, before_version=record.stream_version)
            folded[key] = of.evolve(state, payload_of(record), envelope_of(record))
        await self._write(connection, folded)
        self._uncommitted = folded

    async def _write(self, connection: Connection, folded: dict[Key, Aggregate]) -> None:
        for kind, of in _KINDS.items():
            rows = [
                {of.key: key[1], "version": state.version, "state": dump(state), **of.columns(state)}
                for key, state in folded.items()
                if key[0] == kind
            ]
            if not rows:
                continue
            names = list(rows[0])
            updates = ", ".join(f"{name} = excluded.{name}" for name in names if name != of.key)
            await connection.executemany(
                f"insert into scheduler.{of.table} ({', '.join(names)}) "
                f"values ({', '.join(f'${n + 1}' for n in range(len(names)))}) "
                f"on conflict ({of.key}) do update set {updates} where {of.table}.version < excluded.version",
                [tuple(row.values()) for row in rows],
            )

    def committed(self) -> None:
        """The transaction of the last `project` is durable."""
        for key, state in self._uncommitted.items():
            self._remember(key, state)
        self._uncommitted = {}

    async def absorb(self, records: Sequence[EventRecord]) -> None:
        """Take in what other services and replicas have appended; what is known already changes nothing."""
        foreign: dict[Key, None] = {}
        for record in records:
            key = (record.stream_kind, record.stream_id)
            known = self._cache.get(key)
            if record.stream_kind in _KINDS and (known is None or known.version < record.stream_version):
                foreign[key] = None
        if foreign:
            await self.fold_again(foreign)

    async def fold_again(self, keys: Iterable[Key]) -> None:
        """Bring the rows of streams that others append to up to the log."""
        async with self._pool.acquire() as connection, connection.transaction():
            folded: dict[Key, Aggregate] = {}
            for key in keys:
                self._cache.pop(key, None)
                state = await self._read(connection, *key)
                if state is not None:
                    folded[key] = state
            await self._write(connection, folded)
        for key, state in folded.items():
            self._remember(key, state)
