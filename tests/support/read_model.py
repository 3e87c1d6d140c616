"""The quota's read model by itself: its tables as values, its projection without the service around it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import asyncpg

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.bus import Bus
from services.eventlog.projection import Projection, forget_checkpoint
from services.eventlog.read import read_head
from services.migrations import migrate
from services.postgres import Pool
from services.quota.bootstrap import MIGRATIONS
from services.quota.charges import NAME, TABLES, Charges
from tests.support.eventually import eventually
from tests.support.filled_log import fill
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls

Tables = Mapping[str, Sequence[tuple[Any, ...]]]


async def prepare(database: DatabaseUrls, records: Sequence[EventRecord]) -> None:
    """A log with the records, and the read model's empty tables."""
    await fill(database, records)
    connection = await asyncpg.connect(database.quota)
    try:
        await migrate(connection, "quota", MIGRATIONS)
    finally:
        await connection.close()


async def dump(database: DatabaseUrls) -> Tables:
    """Every row of every table, in an order of its own."""
    connection = await asyncpg.connect(database.quota)
    try:
        return {
            table: [tuple(row) for row in await connection.fetch(f"select * from quota.{table} t order by t::text")]
            for table in TABLES
        }
    finally:
        await connection.close()


async def apply_in(database: DatabaseUrls, batches: Iterable[Sequence[EventRecord]]) -> Tables:
    """The tables after the batches, each in a transaction, from nothing."""
    connection = await asyncpg.connect(database.quota)
    try:
        model = Charges()
        async with connection.transaction():
            await model.clear(connection)
        for batch in batches:
            async with connection.transaction():
                await model.apply(connection, batch)
    finally:
        await connection.close()
    return await dump(database)


async def forget(database: DatabaseUrls) -> None:
    """Have the next start of the projection rebuild everything."""
    connection = await asyncpg.connect(database.quota)
    try:
        await forget_checkpoint(connection, "quota", NAME)
    finally:
        await connection.close()


@asynccontextmanager
async def projecting(url: str, pool: Pool, bus: Bus | None = None) -> AsyncIterator[Projection]:
    """A projection that runs until the end of the block, where it dies without a word, as by SIGKILL."""
    projection = Projection(url, pool, bus or Bus("", "test"), "quota", Charges())
    run = asyncio.create_task(projection.run())
    try:
        yield projection
    finally:
        run.cancel()
        ended, _ = await asyncio.wait([run], timeout=10)
        assert ended, "the projection goes on after it was cancelled"


async def catch_up(database: DatabaseUrls, timeout_s: float = 60) -> None:
    """Start anew, as the next process does, and go on to the head."""
    async with pool_on(database.quota) as pool, projecting(database.quota, pool) as projection:
        head = (await read_head(pool)).position

        async def there() -> bool:
            return await projection.position() == head

        await eventually(there, timeout_s, "the head")


def settled_minutes(tables: Tables) -> dict[tuple[str, str], Fraction]:
    """(workspace, month) → minutes of the table `usage`: attempts that have ended, and adjustments."""
    return {
        (workspace_id, period): Fraction(charged + adjusted) / (60_000 * 10**6)
        for workspace_id, period, charged, adjusted in tables["usage"]
        if charged + adjusted
    }
