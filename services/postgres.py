"""PostgreSQL as the services use it: a pool that outlives the server's restarts."""

import asyncio
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import structlog

from services.clock import PlatformClock

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Record: TypeAlias = asyncpg.Record
    Pool: TypeAlias = asyncpg.Pool[Record]
    Connection: TypeAlias = asyncpg.Connection[Record] | PoolConnectionProxy[Record]
else:
    Record = asyncpg.Record
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

# What a lost, restarting or unreachable server raises; the same call may succeed later.
LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ConnectionDoesNotExistError,
    # What a COPY raises whose server dies in the middle of it.
    asyncpg.InternalClientError,
    TimeoutError,
)

_log = structlog.get_logger()

# A dead peer is noticed within about 10 s, so that what its session held (locks, leadership) moves on.
_SERVER_SETTINGS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "2",
    "client_connection_check_interval": "5s",
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "20s",
}


async def connect(url: str, application: str) -> "Connection":
    """One connection of its own, with the same settings as the pool's. Raises one of `LOST`."""
    return await asyncpg.connect(
        url, timeout=5, command_timeout=60, server_settings={**_SERVER_SETTINGS, "application_name": application}
    )


async def _keep_as_it_is(_connection: "Connection") -> None:
    """Nobody changes a pooled connection's session, so that putting it back need not cost a round trip."""


async def open_pool(url: str, application: str, max_size: int = 8, patience_s: float = 60) -> "Pool":
    """Open a pool, waiting up to `patience_s` for a server that is not there yet.

    Raises the last connection error after that, and errors that waiting cannot mend (a wrong password) at once.
    """
    delay_s, waited_s = 0.1, 0.0
    while True:
        try:
            return await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=max_size,
                timeout=5,
                command_timeout=60,
                server_settings={**_SERVER_SETTINGS, "application_name": application},
                reset=_keep_as_it_is,
            )
        except LOST as error:
            if waited_s >= patience_s:
                raise
            _log.info("waiting for PostgreSQL", error=str(error))
            await asyncio.sleep(delay_s)
            waited_s += delay_s
            delay_s = min(delay_s * 2, 2)


async def sync_clock(pool: "Pool", clock: PlatformClock) -> None:
    """Ask PostgreSQL for the time once. Raises one of `LOST`."""
    asked_at = clock.monotonic()
    now_ms: int = await pool.fetchval("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
    clock.sync(now_ms, asked_at, clock.monotonic())
