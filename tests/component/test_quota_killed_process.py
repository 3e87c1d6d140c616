"""The quota service as a process, killed with SIGKILL wherever its projection may be."""

import random
from collections.abc import Sequence

import pytest

from services.postgres import Pool
from services.quota.charges import NAME
from services.quota.verify import verify
from tests.support.bulk_log import WORKSPACE, BulkLog, write_bulk_log
from tests.support.eventually import eventually
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls
from tests.support.postgres_proxy import cut_connection
from tests.support.quota import NOON_MS
from tests.support.quota_process import quota_process
from tests.support.read_model import Tables, dump, forget, prepare

# Three pages of a subscription.
EVENTS = 2_500
SEED = 11


async def position(pool: Pool) -> int:
    return await pool.fetchval("select position from quota.checkpoints where name = $1", NAME) or 0


async def killed_at(database: DatabaseUrls, pool: Pool, bulk: BulkLog, statement: int, after: bool) -> bool:
    """Rebuild from nothing, die at a statement of the projection, start anew. False where it was through before."""
    await forget(database)
    async with (
        cut_connection(database.quota, statement, after, of=f"quota.{NAME}") as way,
        quota_process(way.url) as process,
    ):
        way.strike = process.kill

        async def through() -> bool:
            return way.cut.is_set() or await position(pool) == bulk.head

        await eventually(through, 60, "the kill, or the head")
        killed = way.cut.is_set()
        if killed:
            assert await process.wait() == -9
    async with quota_process(database.quota):

        async def there() -> bool:
            return await position(pool) == bulk.head

        await eventually(there, 60, "the head")
    return killed


async def replayed(database: DatabaseUrls, pool: Pool) -> tuple[BulkLog, Tables]:
    """A log, and the tables that a service makes of it that nobody kills."""
    await prepare(database, [])
    bulk = await write_bulk_log(database.eventlog, EVENTS, NOON_MS)
    assert not await killed_at(database, pool, bulk, 0, after=False)
    found = await verify(pool, WORKSPACE, "", bulk.last_ms)
    assert (found.position, found.differences) == (bulk.head, [])
    return bulk, await dump(database)


async def check(database: DatabaseUrls, statements: Sequence[tuple[int, bool]]) -> int:
    """How many of these kills came before it was through."""
    kills = 0
    async with pool_on(database.quota) as pool:
        bulk, clean = await replayed(database, pool)
        for statement, after in statements:
            kills += await killed_at(database, pool, bulk, statement, after)
            assert await dump(database) == clean, f"killed {'after' if after else 'before'} statement {statement}"
    return kills


async def test_a_service_that_is_killed_goes_on_as_if_nothing_had_happened(database: DatabaseUrls) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    # The lock, the rebuild, and two places in the pages.
    statements = [(2, True), (6, False), *((chance.randint(9, 30), chance.random() < 0.5) for _ in range(2))]
    assert await check(database, statements) == len(statements)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_service_that_is_killed_at_any_statement_goes_on_as_if_nothing_had_happened(
    database: DatabaseUrls,
) -> None:
    statements = [(statement, after) for statement in range(1, 61) for after in (False, True)]
    kills = await check(database, statements)
    print(f"killed {kills} times")
    assert 40 < kills < len(statements), "each statement of the projection, and beyond the last"
