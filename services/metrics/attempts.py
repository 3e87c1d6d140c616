"""Which jobs and attempts there are: a read model of the log, and the questions that it answers."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import JobAssigned, JobSubmitted
from services.clock import Clock
from services.eventlog.projection import Projection
from services.eventlog.read import read_head
from services.postgres import Connection, Pool
from services.rpc.credentials import OPERATOR, Principal
from services.rpc.errors import NotFound, Unavailable

_MAX_CACHED = 10_000
_CATCH_UP_S = 10.0
_LOOK_S = 0.05
_MAX_ID_LENGTH = 100
_ENDS = ("JobFinished", "JobFailed", "JobKilled")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What JobAssigned said; it never changes."""

    attempt_id: str
    job_id: str
    workspace_id: str
    runner_id: str
    assigned_position: int


class Assignments:
    """The read model: tables `jobs` (with their ends, and whether they have advanced evaluation) and `attempts`."""

    name = "attempts"

    async def clear(self, connection: Connection) -> None:
        await connection.execute("truncate metrics.jobs, metrics.attempts")

    async def apply(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        submitted = [record for record in records if record.type == "JobSubmitted"]
        if submitted:
            await connection.executemany(
                "insert into metrics.jobs (job_id, workspace_id, advanced) values ($1, $2, $3)",
                [(record.stream_id, record.workspace_id, _is_advanced(record)) for record in submitted],
            )
        assigned = [record for record in records if record.type == "JobAssigned"]
        if assigned:
            await connection.executemany(
                "insert into metrics.attempts (attempt_id, job_id, workspace_id, runner_id, assigned_position) "
                "values ($1, $2, $3, $4, $5)",
                [_row(record) for record in assigned],
            )
        over = _over(records)
        if over:
            await connection.executemany(
                "update metrics.jobs set over_at = to_timestamp($2::bigint / 1e6) where job_id = $1", list(over.items())
            )


def _over(records: Sequence[EventRecord]) -> dict[str, int | None]:
    """Jobs that ended, with Unix microseconds, and those that were assigned (again), which are not over."""
    moved: dict[str, int | None] = {}
    for record in records:
        if record.type in _ENDS:
            moved[record.stream_id] = record.recorded_at_us
        elif record.type == "JobAssigned" and record.stream_version > 2:
            # A first assignment changes nothing.
            moved[record.stream_id] = None
    return moved


def _is_advanced(record: EventRecord) -> bool:
    """Whether advanced evaluation was asked for."""
    return JobSubmitted.FromString(record.payload.value).spec.advanced_evaluation.enabled


def _row(record: EventRecord) -> tuple[str, str, str, str, int]:
    event = JobAssigned.FromString(record.payload.value)
    return event.attempt_id, record.stream_id, record.workspace_id, event.runner_id, record.position


T = TypeVar("T")


async def reach_head(pool: Pool, projection: Projection, clock: Clock) -> None:
    """Wait until the read model holds the log as it is now. Raises Unavailable where it does not in time."""
    head = (await read_head(pool)).position
    give_up_at = clock.monotonic() + _CATCH_UP_S
    while (position := await projection.position()) < head:
        if clock.monotonic() > give_up_at:
            raise Unavailable(
                f"this service knows the log up to {position}, not yet {head}; repeat the request in a second"
            )
        await asyncio.sleep(_LOOK_S)


class Register:
    """Answers from the read model; what it does not know is looked for once more when it has reached the log's head."""

    def __init__(self, pool: Pool, projection: Projection, clock: Clock) -> None:
        self._pool, self._projection, self._clock = pool, projection, clock
        self._attempts: OrderedDict[str, Attempt] = OrderedDict()
        self._workspaces: OrderedDict[str, str] = OrderedDict()

    async def attempt(self, attempt_id: str) -> Attempt | None:
        """Raises Unavailable where the read model does not reach the head in time."""
        return await self._find(self._attempts, attempt_id, self._read_attempt)

    async def check_job(self, job_id: str, principal: Principal) -> None:
        """Raises NotFound unless the job is in the caller's workspace (the operator reads them all)."""
        workspace_id = await self._find(self._workspaces, job_id, self._read_workspace)
        if workspace_id is None or (principal.role != OPERATOR and workspace_id != principal.workspace_id):
            raise NotFound("job", job_id, "`tether jobs list` shows those that there are")

    async def _find(
        self, cache: "OrderedDict[str, T]", key: str, read: Callable[[str], Awaitable[T | None]]
    ) -> T | None:
        if key in cache:
            cache.move_to_end(key)
            return cache[key]
        if not key.isprintable() or len(key) > _MAX_ID_LENGTH:
            return None
        found = await read(key)
        if found is None:
            await reach_head(self._pool, self._projection, self._clock)
            found = await read(key)
        if found is not None:
            cache[key] = found
            if len(cache) > _MAX_CACHED:
                cache.popitem(last=False)
        return found

    async def _read_attempt(self, attempt_id: str) -> Attempt | None:
        row = await self._pool.fetchrow(
            "select attempt_id, job_id, workspace_id, runner_id, assigned_position from metrics.attempts "
            "where attempt_id = $1",
            attempt_id,
        )
        return None if row is None else Attempt(*row.values())

    async def _read_workspace(self, job_id: str) -> str | None:
        workspace_id: str | None = await self._pool.fetchval(
            "select workspace_id from metrics.jobs where job_id = $1", job_id
        )
        return workspace_id
