"""The batching appender: one per process, turns the commands that wait at one moment into one transaction."""

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import structlog

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.clock import Clock
from services.eventlog.append import Append, Appended, LogUnavailable
from services.eventlog.batch import Batch, RequestKey, StreamKey, Waiting
from services.eventlog.catalogue import COLUMNS, EventRow
from services.postgres import LOST, Connection, Pool, connect

_log = structlog.get_logger()

# One appender at a time: positions are contiguous and in commit order because of this lock.
_LOCK = 7301000
_PARTITION_POSITIONS = 10_000_000
_MAX_BATCH = 1000
_MAX_WAITING = 20_000

Project = Callable[[Connection, Sequence[EventRecord]], Awaitable[None]]
OnCommit = Callable[[Sequence[EventRecord]], None]


class _ExpectationFailed(Exception):
    """A command expected a version that its stream does not have: read all versions, and find out which."""


async def take_append_lock(connection: Connection) -> None:
    """Nobody else appends until the transaction ends."""
    await connection.execute(f"select pg_advisory_xact_lock({_LOCK})")


async def settled(pool: Pool) -> int:
    """Wait until what is being appended now is committed or given up; returns the Unix millisecond of that moment.

    Whatever is appended later is recorded in that millisecond or after it: the ones before are past for good.
    """
    now_ms: int = await pool.fetchval(
        # One statement, so that appends wait for no round trip of ours. The clock is read under the lock.
        f"with held as materialized (select pg_advisory_xact_lock_shared({_LOCK})) "
        "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint from held"
    )
    return now_ms


class Appender:
    """Appends commands' events durably; `append` returns after the commit.

    `project` writes the service's own read models in the same transaction, under the lock. `on_commit` is told of
    every record after its commit, in position order. `start` before use, `stop` after.
    """

    def __init__(
        self,
        url: str,
        name: str,
        clock: Clock,
        project: Project | None = None,
        on_commit: OnCommit | None = None,
    ) -> None:
        self._url, self._name, self._clock = url, name, clock
        self._project, self._on_commit = project, on_commit
        # A deque and an event: an asyncio.Queue costs as much for each command as its whole row.
        self._queue: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._partitions_up_to = -1
        self._unanswered: list[tuple[Waiting, Appended | Exception]] = []
        self._stopping = False
        # First position of a transaction whose commit may have happened unheard; zero: there is none.
        self._unheard_from = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="appender")

    async def stop(self) -> None:
        """Stop at once; commands that are not settled raise LogUnavailable."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._queue:
            self._queue.popleft().settle(LogUnavailable("the service is stopping; repeat the request in a second"))
        await self._disconnect()

    async def append(self, append: Append, patience_s: float = 20) -> Appended:
        """Append all events of a command, or none.

        Raises Conflict, RequestIdReused, LogUnavailable (after `patience_s` without PostgreSQL, or when too many
        commands wait).
        """
        if len(self._queue) >= _MAX_WAITING:
            raise LogUnavailable(f"{_MAX_WAITING} commands wait for the event log; try again in a second")
        done: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._queue.append(Waiting(append, done, self._clock.monotonic() + patience_s))
        self._arrived.set()
        return await done

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            batch = [self._queue.popleft() for _ in range(min(_MAX_BATCH, len(self._queue)))]
            if not self._queue:
                self._arrived.clear()
            try:
                await self._settle(batch)
            except asyncio.CancelledError:
                self._answer()
                for waiting in batch:
                    waiting.settle(LogUnavailable("the service is stopping; repeat the request in a second"))
                raise

    async def _settle(self, waiting: list[Waiting]) -> None:
        """Settle every command: in one transaction, or one by one where that fails on its content."""
        delay_s = 0.05
        while waiting:
            try:
                batch = await self._transact(waiting)
            except LOST as error:
                self._answer()
                if self._stopping:
                    raise asyncio.CancelledError from error
                # The next round looks for our event ids before it inserts again.
                _log.warning("the append waits for PostgreSQL", error=str(error), commands=len(waiting))
                await self._disconnect()
                waiting = self._still_patient(waiting, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 1)
            except Exception as error:
                self._answer()
                if len(waiting) == 1:
                    _log.exception("a command could not be appended")
                    waiting[0].settle(error)
                    return
                for one in waiting:
                    await self._settle([one])
                return
            else:
                if self._on_commit is not None:
                    self._on_commit([EventRow(*row).record() for row in (*batch.recovered, *batch.rows)])
                # A batch that wrote nothing, because all of it conflicted, has not told those of the batch before it.
                self._answer()
                self._unanswered = batch.outcomes
                if not self._queue:
                    self._answer()
                return

    def _answer(self) -> None:
        """Tell the callers of the last committed batch. Where more commands wait, this is done while PostgreSQL works
        on the next batch: otherwise it would idle while they are woken.
        """
        answered, self._unanswered = self._unanswered, []
        for one, outcome in answered:
            one.settle(outcome)

    def _still_patient(self, waiting: list[Waiting], error: BaseException) -> list[Waiting]:
        now = self._clock.monotonic()
        for one in waiting:
            if one.expires_at <= now:
                unavailable = LogUnavailable("the event log's database does not answer; repeat the request later")
                unavailable.__cause__ = error
                one.settle(unavailable)
        return [one for one in waiting if one.expires_at > now]

    async def _transact(self, waiting: list[Waiting]) -> Batch:
        if self._connection is None:
            self._connection = await connect(self._url, f"{self._name} appender")
        connection = self._connection
        try:
            batch = await self._append(connection, waiting, read_all_versions=False)
        except _ExpectationFailed:
            batch = await self._append(connection, waiting, read_all_versions=True)
        self._unheard_from = 0
        return batch

    async def _append(self, connection: Connection, waiting: list[Waiting], read_all_versions: bool) -> Batch:
        async with connection.transaction():
            batch = await self._plan(connection, waiting, read_all_versions)
            if batch.rows or batch.requests:
                self._unheard_from = batch.head - len(batch.rows) + 1
                await self._write(connection, batch)
        return batch

    async def _plan(self, connection: Connection, waiting: list[Waiting], read_all_versions: bool) -> Batch:
        # Statements of their own, so that each sees what was committed before the lock was taken.
        await take_append_lock(connection)
        last = await connection.fetchrow(
            "select coalesce(max(position), 0) as head, greatest(clock_timestamp(), max(recorded_at)) as now "
            "from (select position, recorded_at from eventlog.events order by position desc limit 1) last"
        )
        assert last is not None  # an aggregate has one row
        keys = {
            (stream.kind, stream.stream_id)
            for one in waiting
            for stream in one.append.streams
            if read_all_versions or stream.expected is None
        }
        batch = Batch(
            last["head"],
            last["now"],
            await self._versions(connection, keys),
            await self._answered(connection, waiting),
            await self._committed(connection, waiting),
        )
        for one in waiting:
            batch.add(one)
        return batch

    async def _versions(self, connection: Connection, keys: set[StreamKey]) -> dict[StreamKey, int]:
        """The versions of these streams; 0 for one that has no events."""
        if not keys:
            return {}
        rows = await connection.fetch(
            "select s.kind, s.id, s.version from unnest($1::text[], $2::text[]) k(kind, id) "
            "join eventlog.streams s on s.kind = k.kind and s.id = k.id",
            [kind for kind, _ in keys],
            [stream_id for _, stream_id in keys],
        )
        found = {(kind, stream_id): version for kind, stream_id, version in rows}
        return {key: found.get(key, 0) for key in keys}

    async def _answered(self, connection: Connection, waiting: list[Waiting]) -> dict[RequestKey, tuple[bytes, bytes]]:
        requests = [one.append.request for one in waiting if one.append.request is not None]
        if not requests:
            return {}
        rows = await connection.fetch(
            "select r.subject, r.request_id, r.request_hash, r.response from unnest($1::text[], $2::text[]) "
            "k(subject, request_id) join eventlog.requests r on r.subject = k.subject and r.request_id = k.request_id",
            [request.subject for request in requests],
            [request.request_id for request in requests],
        )
        return {(subject, request_id): (content, response) for subject, request_id, content, response in rows}

    async def _committed(self, connection: Connection, waiting: list[Waiting]) -> dict[uuid.UUID, EventRow]:
        if not self._unheard_from:
            return {}
        rows = await connection.fetch(
            f"select {COLUMNS} from eventlog.events where position >= $1 and event_id = any($2::uuid[])",
            self._unheard_from,
            [event_id for one in waiting for event_id in one.event_ids],
        )
        return {row["event_id"]: EventRow(*row) for row in rows}

    async def _write(self, connection: Connection, batch: Batch) -> None:
        if batch.rows:
            await self._write_versions(connection, batch)
            await self._ensure_partitions(connection, batch.head)
            copying = asyncio.ensure_future(
                connection.copy_records_to_table(
                    "events", schema_name="eventlog", columns=EventRow._fields, records=batch.rows
                )
            )
            try:
                await asyncio.sleep(0)
                self._answer()
            finally:
                # Also when we are cancelled here: the rollback needs the connection for itself.
                await copying
            if self._project is not None:
                await self._project(connection, [EventRow(*row).record() for row in batch.rows])
        if batch.requests:
            await connection.executemany(
                "insert into eventlog.requests (subject, request_id, request_hash, response) values ($1, $2, $3, $4)",
                batch.requests,
            )

    async def _write_versions(self, connection: Connection, batch: Batch) -> None:
        """Move the streams on. Raises _ExpectationFailed where one is not at the version that the batch follows."""
        new = [(kind, id_, after) for (kind, id_), (before, after) in batch.changed.items() if not before]
        old = [(kind, id_, before, after) for (kind, id_), (before, after) in batch.changed.items() if before]
        if new:
            try:
                await connection.copy_records_to_table(
                    "streams", schema_name="eventlog", columns=("kind", "id", "version"), records=new
                )
            except asyncpg.UniqueViolationError:
                raise _ExpectationFailed from None
        if old:
            done = await connection.execute(
                "update eventlog.streams s set version = n.after "
                "from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) n(kind, id, before, after) "
                "where s.kind = n.kind and s.id = n.id and s.version = n.before",
                *map(list, zip(*old, strict=True)),
            )
            if done != f"UPDATE {len(old)}":
                raise _ExpectationFailed

    async def _ensure_partitions(self, connection: Connection, head: int) -> None:
        # A tenth of a partition ahead, so that the one in use is never the last.
        ahead = head + _PARTITION_POSITIONS // 10
        if ahead // _PARTITION_POSITIONS > self._partitions_up_to:
            await connection.execute("select eventlog.ensure_partition($1), eventlog.ensure_partition($2)", head, ahead)
            self._partitions_up_to = ahead // _PARTITION_POSITIONS

    async def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()
