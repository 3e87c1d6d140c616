"""What every service process has: database, bus, clock, who may enter, and the log as it grows."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import asyncpg
import structlog

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.clock import PlatformClock
from services.eventlog.bus import Bus
from services.eventlog.read import Filter, read_head, read_range
from services.eventlog.subscribe import Subscription
from services.migrations import migrate
from services.postgres import LOST, Pool, open_pool, sync_clock
from services.rpc.credentials import CREDENTIAL_EVENTS, Directory
from services.rpc.errors import Unavailable
from services.rpc.settings import ServiceSettings, StartRefused
from services.rpc.shell import Shell

_log = structlog.get_logger()

Listener = Callable[[Sequence[EventRecord]], Awaitable[None]]

# A flood of unknown tokens asks the database at most this often.
_CATCH_UP_INTERVAL_S = 0.2


class Kernel:
    """Made by `open_kernel`. Run `follow` for as long as the process serves."""

    def __init__(self, settings: ServiceSettings, name: str, pool: Pool, bus: Bus, clock: PlatformClock) -> None:
        self.settings, self.name, self.pool, self.bus, self.clock = settings, name, pool, bus, clock
        self.directory = Directory(settings.operator_sha256)
        self.shell = Shell(self.directory, self.catch_up, clock)
        # Every event up to here has been told to the listeners.
        self.position = 0
        self._moved = asyncio.Condition()
        self._caught_up_to = 0
        self._caught_up_at = 0.0
        self._catching_up = asyncio.Lock()

    async def catch_up(self) -> None:
        """Read the credentials that were committed since the last look."""
        called_at = self.clock.monotonic()
        async with self._catching_up:
            if self._caught_up_at >= called_at:
                # Somebody has looked since; one look serves all who wait.
                return
            await asyncio.sleep(self._caught_up_at + _CATCH_UP_INTERVAL_S - self.clock.monotonic())
            await self._read_credentials()

    async def _read_credentials(self) -> None:
        asked_at = self.clock.monotonic()
        head = await read_head(self.pool)
        matching = Filter(types=CREDENTIAL_EVENTS)
        async for page in read_range(self.pool, self._caught_up_to + 1, head.position, matching):
            self.directory.apply(page)
        self._caught_up_to, self._caught_up_at = head.position, asked_at

    async def follow(self, *listeners: Listener) -> None:
        """Tell the listeners of every event from now on, in order, until cancelled."""
        async for records in Subscription(self.pool, self.bus, self.position).batches():
            self.directory.apply(records)
            for listener in listeners:
                await self._tell(listener, records)
            async with self._moved:
                self.position = records[-1].position
                self._moved.notify_all()

    async def _tell(self, listener: Listener, records: Sequence[EventRecord]) -> None:
        """Tell one listener, for as long as PostgreSQL is away again and again: a restart of it ends nobody."""
        delay_s = 0.1
        while True:
            try:
                return await listener(records)
            except LOST as error:
                _log.info("the log's followers wait for PostgreSQL", error=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 2)

    async def reached(self, position: int, timeout_s: float = 10) -> None:
        """Wait until the listeners know `position`. Raises Unavailable after `timeout_s`."""
        if self.position >= position:
            return
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.position >= position)
        except TimeoutError:
            raise Unavailable(
                f"this service knows the log up to {self.position}, not yet {position}; repeat the request in a second"
            ) from None

    async def keep_clock(self, interval_s: float = 30) -> None:
        """Stay on PostgreSQL's time until cancelled."""
        while True:
            try:
                await sync_clock(self.pool, self.clock)
            except LOST as error:
                _log.info("the clock runs on by itself", error=str(error))
            await asyncio.sleep(interval_s)

    async def close(self) -> None:
        await self.bus.stop()
        self.pool.terminate()


async def open_kernel(settings: ServiceSettings, name: str, migrations: Path) -> Kernel:
    """Connect, bring the service's own schema up to date, and read who may enter.

    Raises StartRefused where waiting does not help, or did not.
    """
    clock = PlatformClock()
    try:
        pool = await open_pool(settings.postgres_url, name)
        async with pool.acquire() as connection:
            await migrate(connection, name, migrations)
        await _wait_for_log(pool)
        await sync_clock(pool, clock)
    except LOST as error:
        raise StartRefused(f"PostgreSQL at TETHER_POSTGRES_URL does not answer ({error}); is it running?") from None
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidCatalogNameError, asyncpg.InsufficientPrivilegeError) as error:
        raise StartRefused(f"PostgreSQL refuses the role of TETHER_POSTGRES_URL: {error}") from None
    bus = Bus(settings.nats_url, name)
    bus.start()
    kernel = Kernel(settings, name, pool, bus, clock)
    head = await read_head(pool)
    kernel.position = head.position
    await kernel.catch_up()
    return kernel


async def _wait_for_log(pool: Pool, patience_s: float = 60) -> None:
    """The event log's own service makes its tables; wait for them."""
    waited_s = 0.0
    while waited_s < patience_s:
        try:
            await read_head(pool)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
            await asyncio.sleep(0.1)
            waited_s += 0.1
        else:
            return
    raise StartRefused("the event log has no tables yet; start the service eventlog on the same database")
