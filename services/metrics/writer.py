"""Group commit: one writer per process turns what waits at one moment, of all streams, into one transaction."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection

import asyncpg
import structlog

from services.metrics.attempts import Attempt
from services.metrics.chunks import Batch
from services.metrics.limits import Limits
from services.metrics.plan import (
    CHUNK_COLUMNS,
    EVALUATION_COLUMNS,
    FACTS_COLUMNS,
    LOG_COLUMNS,
    MERGE_COLUMNS,
    PREVIEW_COLUMNS,
    Plan,
    SeriesKey,
    Stored,
)
from services.metrics.store import add_series, count_refusals, grow_series, load_series, lock_spools, move_spools
from services.postgres import LOST, Connection, connect
from services.rpc.errors import Unavailable

_log = structlog.get_logger()

# A transaction takes this much at most, so that its acknowledgements do not wait long.
_MAX_GROUP = 256
_MAX_GROUP_POINTS = 500_000
# What may wait in all, as serialised; then the streams are read no further.
_UNIT_BYTES = 64 << 10
_MAX_UNITS = 1024
_MAX_CACHED_JOBS = 1000

# Passing states of a live server; the same transaction may succeed later.
_TRANSIENT = (
    *LOST,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    # What asyncpg makes of a connection that is lost in the middle of a COPY.
    asyncpg.InternalClientError,
)


class _Waiting:
    __slots__ = ("attempt", "batch", "done", "units")

    def __init__(self, attempt: Attempt, batch: Batch, units: int) -> None:
        self.attempt, self.batch, self.units = attempt, batch, units
        self.done: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        # Its stream may be gone by then; nobody asks for the error.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())


class Writer:
    """Stores batches durably and once. `on_commit` is told the jobs that have something new. `start`, then `stop`."""

    def __init__(self, url: str, limits: Limits, on_commit: Callable[[Collection[str]], None]) -> None:
        self._url, self._limits, self._on_commit = url, limits, on_commit
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._room = asyncio.Semaphore(_MAX_UNITS)
        # One at a time, so that two large batches never hold half of their room each.
        self._entrance = asyncio.Lock()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        # Series of a job that are known to be committed; they are never deleted.
        self._series: OrderedDict[str, dict[SeriesKey, int]] = OrderedDict()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="metrics writer")

    async def stop(self) -> None:
        """Stop at once; batches that are not settled raise Unavailable, and are sent again by their boxes."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._queue.empty():
            self._settle(self._queue.get_nowait(), _stopping())
        self._disconnect()

    async def submit(self, attempt: Attempt, batch: Batch, size_bytes: int) -> "asyncio.Future[Stored]":
        """Queue a batch; waits while too much waits already. The future is set after the commit, for however long
        PostgreSQL is away. Batches of one spool are stored in the order in which they were submitted."""
        units = min(size_bytes // _UNIT_BYTES + 1, _MAX_UNITS)
        taken = 0
        async with self._entrance:
            try:
                for _ in range(units):
                    await self._room.acquire()
                    taken += 1
            except asyncio.CancelledError:
                self._release(taken)
                raise
        waiting = _Waiting(attempt, batch, units)
        self._queue.put_nowait(waiting)
        return waiting.done

    async def _run(self) -> None:
        while True:
            group = [await self._queue.get()]
            points = group[0].batch.points
            while len(group) < _MAX_GROUP and points < _MAX_GROUP_POINTS and not self._queue.empty():
                group.append(self._queue.get_nowait())
                points += group[-1].batch.points
            try:
                await self._store(group)
            except asyncio.CancelledError:
                for waiting in group:
                    self._settle(waiting, _stopping())
                raise

    async def _store(self, group: list[_Waiting]) -> None:
        """Settle every batch: in one transaction, or one by one where that fails on its content."""
        delay_s = 0.05
        while True:
            try:
                answers = await self._transact(group)
            except _TRANSIENT as error:
                # A commit that was not heard of is recognised by the high-water rows.
                _log.warning("the ingest waits for PostgreSQL", error=str(error), batches=len(group))
                self._disconnect()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 1)
            except Exception as error:
                self._disconnect()
                if len(group) == 1:
                    _log.exception("a batch could not be stored", attempt_id=group[0].attempt.attempt_id)
                    self._settle(group[0], error)
                    return
                for waiting in group:
                    await self._store([waiting])
                return
            else:
                self._on_commit({waiting.attempt.job_id for waiting in group})
                for waiting, stored in zip(group, answers, strict=True):
                    self._settle(waiting, stored)
                return

    async def _transact(self, group: list[_Waiting]) -> list[Stored]:
        if self._connection is None:
            self._connection = await connect(self._url, "metrics writer")
        connection = self._connection
        async with connection.transaction():
            keys = {(one.attempt.attempt_id, one.batch.request.spool): one.attempt for one in group}
            spools = await lock_spools(connection, keys)
            series: dict[str, dict[SeriesKey, int]] = {}
            for one in group:
                spool_id = spools[one.attempt.attempt_id, one.batch.request.spool].spool_id
                wanted = [(spool_id, name) for name in one.batch.columns]
                job_id = one.attempt.job_id
                if job_id not in series:
                    series[job_id] = self._series.get(job_id, {})
                if not self._suffices(series[job_id], wanted):
                    series[job_id] = await load_series(connection, job_id)
            plan = Plan(spools, series, self._limits)
            answers = [plan.add(one.batch) for one in group]
            new_ids = await add_series(connection, list(plan.new_series))
            await _copy(connection, "chunks", CHUNK_COLUMNS, plan.chunk_rows(new_ids))
            await _copy(connection, "log_chunks", LOG_COLUMNS, plan.log_rows)
            await _copy(connection, "evaluations", EVALUATION_COLUMNS, plan.evaluation_rows)
            await _copy(connection, "preview_images", PREVIEW_COLUMNS, plan.preview_rows)
            await _copy(connection, "facts", FACTS_COLUMNS, plan.facts_rows)
            await _copy(connection, "merges", MERGE_COLUMNS, plan.merge_rows)
            await grow_series(connection, plan.growth(new_ids))
            await count_refusals(connection, plan.refusal_rows)
            await move_spools(connection, plan.changed_spools)
        for key, job_id in plan.new_series.items():
            series[job_id][key] = new_ids[key]
        self._remember(series)
        return answers

    def _suffices(self, known: dict[SeriesKey, int], wanted: list[SeriesKey]) -> bool:
        """Whether the cache can decide: every series is in it, or the job can have no more."""
        unknown = [name for spool_id, name in wanted if (spool_id, name) not in known]
        if not unknown:
            return True
        names = {name for _, name in known}
        return len(names) >= self._limits.series_per_job and names.isdisjoint(unknown)

    def _remember(self, series: dict[str, dict[SeriesKey, int]]) -> None:
        for job_id, known in series.items():
            self._series[job_id] = known
            self._series.move_to_end(job_id)
        while len(self._series) > _MAX_CACHED_JOBS:
            self._series.popitem(last=False)

    def _settle(self, waiting: _Waiting, outcome: Stored | Exception) -> None:
        self._release(waiting.units)
        if waiting.done.done():
            return
        if isinstance(outcome, Stored):
            waiting.done.set_result(outcome)
        else:
            waiting.done.set_exception(outcome)

    def _release(self, units: int) -> None:
        for _ in range(units):
            self._room.release()

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()


async def _copy(connection: Connection, table: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    if rows:
        await connection.copy_records_to_table(table, schema_name="metrics", columns=columns, records=rows)


def _stopping() -> Unavailable:
    return Unavailable("the service is stopping; send the batch again in a second")
