"""A leader that is told to end does so, also where its connection dies at that very moment."""

import asyncio

from services.eventlog.leadership import lead
from services.postgres import Connection
from tests.support.platform import DatabaseUrls


async def test_a_leader_ends_when_cancelled_though_its_connection_dies_meanwhile(database: DatabaseUrls) -> None:
    leading = asyncio.Event()

    async def work(connection: Connection) -> None:
        async with connection.transaction():
            leading.set()
            try:
                await asyncio.Event().wait()
            finally:
                # So that the rollback finds no connection.
                connection.terminate()

    run = asyncio.create_task(lead(database.eventlog, "a test", work))
    async with asyncio.timeout(10):
        await leading.wait()
    run.cancel()
    ended, _ = await asyncio.wait([run], timeout=5)
    assert ended
    assert run.cancelled()
