"""Wiring of the quota service: the read model, the timer, and QuotaService."""

import asyncio
from pathlib import Path

from protos.quota.v1.quota_pb2_grpc import add_QuotaServiceServicer_to_server
from services.clock import Clock
from services.eventlog.appender import Appender
from services.eventlog.projection import Projection
from services.quota.api import QuotaApi
from services.quota.changes import Changes
from services.quota.charges import Charges
from services.quota.invoices import Invoices
from services.quota.progress import Progress
from services.quota.timer import QuotaTimer, Wait, wait_for_event
from services.quota.usage import UsageAnswers
from services.quota.watches import UsageWatches
from services.rpc.kernel import Kernel, open_kernel
from services.rpc.process import run_until
from services.rpc.server import Server
from services.rpc.settings import ServiceSettings

MIGRATIONS = Path(__file__).parent / "migrations"


class Settings(ServiceSettings):
    """Settings of the service quota."""


class QuotaService:
    """The service's parts. `clock` and `wait` decide when running trainings have used up what is left."""

    def __init__(self, kernel: Kernel, clock: Clock, wait: Wait = wait_for_event) -> None:
        url = kernel.settings.postgres_url
        self._kernel = kernel
        self._appender = Appender(url, "quota", clock, on_commit=lambda _records: kernel.bus.hint_head())
        self._projection = Projection(url, kernel.pool, kernel.bus, "quota", Charges())
        progress = Progress(kernel, self._projection, clock)
        self._timer = QuotaTimer(url, kernel.pool, clock, progress, self._appender, wait)
        usage = UsageAnswers(kernel.pool, clock, progress)
        self._watches = UsageWatches(usage, kernel.shell)
        invoices = Invoices(kernel.pool, clock, progress)
        changes = Changes(kernel.pool, clock, self._appender, progress)
        api = QuotaApi(kernel.pool, clock, progress, usage, self._watches, invoices, changes)
        mounts = [(add_QuotaServiceServicer_to_server, api, "tether.quota.v1.QuotaService")]
        self.server = Server(kernel.settings.listen, mounts, kernel.shell)

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set."""
        try:
            await self.server.start()
            self._appender.start()
            await run_until(
                stopping,
                self._kernel.follow(self._timer.told, self._watches.told),
                self._kernel.keep_clock(),
                self._projection.run(),
                self._timer.run(),
            )
        finally:
            await self.server.stop(grace_s=2)
            await self._appender.stop()


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set."""
    kernel = await open_kernel(settings, "quota", MIGRATIONS)
    try:
        await QuotaService(kernel, kernel.clock).run(stopping)
    finally:
        await kernel.close()
