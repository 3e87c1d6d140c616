"""Runs a projection: a read model that follows the log, with one active writer and a checkpoint that moves with it."""

from collections.abc import Sequence
from typing import Protocol

import structlog

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.bus import Bus
from services.eventlog.leadership import lead
from services.eventlog.read import read_head
from services.eventlog.subscribe import Subscription
from services.postgres import Connection, Pool

_log = structlog.get_logger()


class ReadModel(Protocol):
    """Tables that are a function of the log."""

    @property
    def name(self) -> str:
        """Name of its checkpoint, unique in its schema."""
        ...

    async def clear(self, connection: Connection) -> None:
        """Empty its tables, in the caller's transaction."""
        ...

    async def apply(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        """Write what the records mean, in the caller's transaction. Called with every record once, in order."""
        ...


class Projection:
    """Keeps one read model up to the log.

    The schema needs a table `checkpoints (name text primary key, position bigint, log_id uuid)`.
    """

    def __init__(self, url: str, pool: Pool, bus: Bus, schema: str, model: ReadModel) -> None:
        self._url, self._pool, self._bus, self._schema, self._model = url, pool, bus, schema, model

    async def run(self) -> None:
        """Follow the log while this process leads, until cancelled. Safe to run in every replica."""
        await lead(self._url, f"{self._schema}.{self._model.name}", self._follow)

    async def position(self) -> int:
        """Everything up to here is in the tables."""
        found: int | None = await self._pool.fetchval(
            f"select position from {self._schema}.checkpoints where name = $1", self._model.name
        )
        return found or 0

    async def _follow(self, connection: Connection) -> None:
        position = await self._start(connection)
        async for records in Subscription(self._pool, self._bus, position).batches():
            async with connection.transaction():
                moved = await connection.execute(
                    f"update {self._schema}.checkpoints set position = $1 where name = $2 and position = $3",
                    records[-1].position,
                    self._model.name,
                    position,
                )
                if moved != "UPDATE 1":
                    raise ConnectionError(f"the checkpoint {self._model.name} was moved by another writer")
                await self._model.apply(connection, records)
            position = records[-1].position

    async def _start(self, connection: Connection) -> int:
        """The checkpoint's position. One of another log, or beyond the head, is dropped: all is rebuilt."""
        head = await read_head(self._pool)
        async with connection.transaction():
            row = await connection.fetchrow(
                f"select position, log_id::text from {self._schema}.checkpoints where name = $1", self._model.name
            )
            if row is not None and row["log_id"] == head.log_id and row["position"] <= head.position:
                position: int = row["position"]
                return position
            if row is not None:
                _log.warning("rebuilding a read model", name=self._model.name, checkpoint=row["position"])
            await self._model.clear(connection)
            await connection.execute(
                f"insert into {self._schema}.checkpoints (name, position, log_id) values ($1, 0, $2::text::uuid) "
                "on conflict (name) do update set position = 0, log_id = excluded.log_id",
                self._model.name,
                head.log_id,
            )
        return 0


async def forget_checkpoint(connection: Connection, schema: str, name: str) -> None:
    """Make the next start rebuild the read model called `name`."""
    await connection.execute(f"delete from {schema}.checkpoints where name = $1", name)
