"""From a time to a position of the log."""

import random
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from services.eventlog.catalogue import COLUMNS
from services.eventlog.read import position_at
from tests.support.given import T0
from tests.support.log import create_log, pool_on
from tests.support.platform import DatabaseUrls

_FIRST_OF_PARTITION = 10_000_000


async def _record(database: DatabaseUrls, first: int, stamps_us: list[int]) -> None:
    """Events from a position on, recorded at these Unix microseconds."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    connection = await asyncpg.connect(database.eventlog)
    await connection.execute("select eventlog.ensure_partition($1)", _FIRST_OF_PARTITION)
    await connection.executemany(
        f"insert into eventlog.events ({COLUMNS}) values ($1, $2, '', '', '', $1, '', 1, '', $3, '', '', '')",
        [
            (position, uuid.UUID(int=position), epoch + timedelta(microseconds=stamp_us))
            for position, stamp_us in enumerate(stamps_us, first)
        ],
    )
    await connection.close()


@pytest.mark.parametrize(("first", "events"), [(1, 1), (1, 2), (1, 257), (_FIRST_OF_PARTITION - 100, 250)])
async def test_the_position_at_a_time_is_the_last_event_recorded_in_that_millisecond_or_before(
    database: DatabaseUrls, first: int, events: int
) -> None:
    await create_log(database)
    chance = random.Random(events)
    stamps_us, stamp_us = [], T0 * 1000
    for _ in range(events):
        # Several in a microsecond, several in a millisecond, and pauses.
        stamp_us += chance.choice([0, 1, 999, 1000, 12_345])
        stamps_us.append(stamp_us)
    await _record(database, first, stamps_us)
    edges_ms = {stamp_us // 1000 + shift for stamp_us in stamps_us for shift in (-1, 0, 1)}
    async with pool_on(database.quota) as pool:
        for at_ms in sorted(edges_ms):
            known = sum(stamp_us // 1000 <= at_ms for stamp_us in stamps_us)
            assert await position_at(pool, at_ms) == first - 1 + known, at_ms


async def test_times_outside_of_the_log_are_its_ends(database: DatabaseUrls) -> None:
    await create_log(database)
    async with pool_on(database.quota) as pool:
        assert await position_at(pool, T0) == 0
        await _record(database, 1, [T0 * 1000, T0 * 1000 + 5])
        for before_ms in (T0 - 1, 0, -1, -(2**63)):
            assert await position_at(pool, before_ms) == 0
        for after_ms in (T0, T0 + 1, 2**63 - 1):
            assert await position_at(pool, after_ms) == 2
