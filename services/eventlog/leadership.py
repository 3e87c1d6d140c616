"""Leadership: at most one process does a thing, and another takes over when it dies."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable

import structlog

from services.postgres import LOST, Connection, connect

_log = structlog.get_logger()

_CLASS = 7301
_RETRY_S = 0.5


async def lead(url: str, name: str, work: Callable[[Connection], Awaitable[None]]) -> None:
    """Run `work` whenever this process holds the leadership called `name`, until cancelled.

    Leadership is a session lock in PostgreSQL, held by the very connection that `work` is given: writes through it
    are refused by nature once the leadership is lost. It moves at once when the process dies, and within 10 s when its
    host vanishes (the connection's keep-alives).
    """
    key = zlib.crc32(name.encode()) & 0x7FFFFFFF
    delay_s = 0.2
    while True:
        connection: Connection | None = None
        try:
            connection = await connect(url, name)
            while not await _acquired(connection, key):  # noqa: ASYNC110 the lock is in PostgreSQL
                await asyncio.sleep(_RETRY_S)
            delay_s = 0.2
            _log.info("leading", name=name)
            await work(connection)
        except LOST as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # The rollback of a connection that dies just then puts its own error in the cancellation's place.
                raise asyncio.CancelledError from error
            _log.info("leadership lost with PostgreSQL", name=name, error=str(error))
        finally:
            if connection is not None:
                connection.terminate()
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, 2)


async def _acquired(connection: Connection, key: int) -> bool:
    held: bool = await connection.fetchval("select pg_try_advisory_lock($1, $2)", _CLASS, key)
    return held
