"""Every command that is appended is answered, whatever becomes of the commands behind it."""

import asyncio

import asyncpg
import pytest

from services.eventlog.append import Conflict
from services.eventlog.appender import take_append_lock
from tests.support.eventually import eventually
from tests.support.log import appender_on, create_log, created
from tests.support.platform import DatabaseUrls


async def test_a_command_is_answered_though_all_that_wait_behind_it_conflict(database: DatabaseUrls) -> None:
    await create_log(database)
    holder = await asyncpg.connect(database.scheduler)
    admin = await asyncpg.connect(database.admin)

    async def waits() -> bool:
        waiting: int = await admin.fetchval("select count(*) from pg_locks where locktype = 'advisory' and not granted")
        return waiting == 1

    async with appender_on(database.scheduler) as log:
        async with holder.transaction():
            await take_append_lock(holder)
            first = asyncio.create_task(log.append(created("ws_1")))
            await eventually(waits, what="the first command's transaction")
            # A batch of its own, which will write nothing: the stream is not at version 7.
            second = asyncio.create_task(log.append(created("ws_2", expected=7)))
            await holder.fetchval("select 1")
        async with asyncio.timeout(10):
            assert (await first).position == 1
            with pytest.raises(Conflict):
                await second
    await holder.close()
    await admin.close()
