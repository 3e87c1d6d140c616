"""Wiring of the scheduler."""

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import structlog
from pydantic import Field

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.scheduler.v1.access_pb2_grpc import add_AccessServiceServicer_to_server
from protos.scheduler.v1.job_pb2_grpc import add_JobServiceServicer_to_server
from protos.scheduler.v1.runner_pb2_grpc import add_RunnerServiceServicer_to_server
from protos.scheduler.v1.session_pb2_grpc import add_RunnerSessionServiceServicer_to_server
from protos.scheduler.v1.workflow_pb2_grpc import add_WorkflowServiceServicer_to_server
from services.eventlog.appender import Appender
from services.eventlog.catalogue import payload_of
from services.eventlog.leadership import lead
from services.ids import new_id
from services.rpc.kernel import Kernel, open_kernel
from services.rpc.process import run_until
from services.rpc.server import Mount, Server
from services.rpc.settings import ServiceSettings
from services.rpc.watch import Hub
from services.scheduler.access_api import AccessApi
from services.scheduler.actions import Actions
from services.scheduler.artifacts import Artifacts
from services.scheduler.catalogue import ARCHITECTURES, RATES, read_architectures, read_rates
from services.scheduler.commands import Commands
from services.scheduler.contacts import Contacts
from services.scheduler.directives import Directives
from services.scheduler.job_api import JobApi
from services.scheduler.job_lists import complete
from services.scheduler.lease import Lease
from services.scheduler.names import TokenNames
from services.scheduler.past import Past
from services.scheduler.queries import Queries
from services.scheduler.rebuild import rebuild
from services.scheduler.replaced_log import notice_replaced_log
from services.scheduler.runner_api import RunnerApi
from services.scheduler.session_api import RunnerSessionApi
from services.scheduler.session_driver import SessionDriver
from services.scheduler.sessions import Sessions
from services.scheduler.sign_in import SignIns
from services.scheduler.store import Store
from services.scheduler.timers import Timers
from services.scheduler.workflow_api import WorkflowApi

_log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"


class Settings(ServiceSettings):
    """Settings of the scheduler."""

    ingest_address: str = Field(
        "",
        description="where agents send metrics, host:port; empty, or by the gateway: where their session is",
    )
    window_ms: int = Field(900_000, ge=1_000, le=86_400_000, description="how long a training may be cut off, ms")
    lease_ms: int = Field(
        15_000, ge=1_000, le=60_000, description="after this long without a sign a scheduler process counts as gone, ms"
    )
    rebuild: bool = Field(False, description="drop the read models at the start and fold them again from the log")
    architectures_file: Path = Field(ARCHITECTURES, description="TOML catalogue of model architectures")
    rates_file: Path = Field(RATES, description="TOML table of GPU multipliers")
    sign_in_code_ms: int = Field(
        600_000, ge=1_000, le=3_600_000, description="how long a code that opens the page may be used, ms"
    )
    sign_in_ms: int = Field(
        43_200_000, ge=60_000, le=2_592_000_000, description="how long a sign-in on the page is valid, ms"
    )


class Scheduler:
    """Everything that one scheduler process holds."""

    def __init__(self, kernel: Kernel, settings: Settings) -> None:
        self.kernel, self._url = kernel, settings.postgres_url
        architectures, rates = read_architectures(settings.architectures_file), read_rates(settings.rates_file)
        replica = f"{socket.gethostname()[:60]}-{new_id('req')[4:12]}"
        self.store, self.queries = Store(kernel.pool), Queries(kernel.pool)
        self.artifacts = Artifacts(kernel.pool, self.store)
        self.names = TokenNames(kernel.pool)
        self.sessions = Sessions(kernel.clock)
        self.contacts = Contacts(kernel.pool, self.store, self.sessions, kernel.clock)
        self.runners_hub, self.jobs_hub = Hub(), Hub()
        self.directives = Directives(self.store, self.sessions)
        self.appender = Appender(
            settings.postgres_url, "scheduler", kernel.clock, project=self.store.project, on_commit=self._committed
        )
        commands = Commands(kernel.pool, self.store, self.appender)
        sign_ins = SignIns(
            commands,
            self.store,
            self.names,
            kernel.shell,
            kernel.clock,
            settings.sign_in_code_ms,
            settings.sign_in_ms,
        )
        past = Past(kernel.pool, self.queries, rates)
        self.actions = Actions(self.store, self.artifacts, commands, kernel.clock, rates, replica, settings.window_ms)
        self.lease = Lease(kernel.pool, kernel.clock, replica, settings.lease_ms)
        self.timers = Timers(
            self.actions,
            self.store,
            self.artifacts,
            self.queries,
            self.contacts,
            kernel.clock,
            replica,
            settings.lease_ms,
        )
        self.session_driver = SessionDriver(
            self.actions,
            self.store,
            self.queries,
            self.sessions,
            self.directives,
            kernel.clock,
            self.lease,
            kernel.shell,
            replica,
            settings.ingest_address,
        )
        self.mounts: Sequence[Mount] = [
            (
                add_AccessServiceServicer_to_server,
                AccessApi(commands, self.store, self.names, kernel.clock, sign_ins),
                "tether.scheduler.v1.AccessService",
            ),
            (
                add_RunnerServiceServicer_to_server,
                RunnerApi(
                    kernel,
                    commands,
                    self.store,
                    self.queries,
                    self.sessions,
                    self.contacts,
                    self.runners_hub,
                    rates,
                    past,
                ),
                "tether.scheduler.v1.RunnerService",
            ),
            (
                add_WorkflowServiceServicer_to_server,
                WorkflowApi(kernel, commands, self.store, self.queries, self.sessions, architectures, rates),
                "tether.scheduler.v1.WorkflowService",
            ),
            (
                add_JobServiceServicer_to_server,
                JobApi(
                    kernel,
                    commands,
                    self.store,
                    self.artifacts,
                    self.queries,
                    self.jobs_hub,
                    architectures,
                    rates,
                    settings.window_ms,
                    past,
                ),
                "tether.scheduler.v1.JobService",
            ),
            (
                add_RunnerSessionServiceServicer_to_server,
                RunnerSessionApi(self.sessions, self.session_driver),
                "tether.scheduler.v1.RunnerSessionService",
            ),
        ]

    def _committed(self, records: Sequence[EventRecord]) -> None:
        """Our own events: known at once, before NATS or PostgreSQL tell them to the subscription."""
        self.store.committed()
        self.kernel.directory.apply(records)
        self._tell(records)
        self.kernel.bus.hint_head()

    async def followed(self, records: Sequence[EventRecord]) -> None:
        """Everybody's events, ours a second time."""
        await self.store.absorb(records)
        self._tell(records)

    def _tell(self, records: Sequence[EventRecord]) -> None:
        self.directives.changed(records)
        self.timers.changed(records)
        for record in records:
            if record.stream_kind == "artifact":
                # A watched job shows where its checkpoints lie.
                job_id = payload_of(record).job_id  # type: ignore[attr-defined]
                self.jobs_hub.touch(record.workspace_id, job_id)
            hub = {"runner": self.runners_hub, "job": self.jobs_hub}.get(record.stream_kind)
            if hub is not None:
                hub.touch(record.workspace_id, record.stream_id)


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set; then tell the agents to come back, and go."""
    kernel = await open_kernel(settings, "scheduler", MIGRATIONS)
    if settings.rebuild:
        async with kernel.pool.acquire() as connection:
            _log.info("read models rebuilt", position=await rebuild(connection, kernel.pool))
    if completed := await complete(kernel.pool):
        _log.info("jobs of an older version can be filtered now", jobs=completed)
    await notice_replaced_log(kernel.pool)
    scheduler = Scheduler(kernel, settings)
    await scheduler.names.adopt()
    await scheduler.artifacts.catch_up()
    scheduler.appender.start()
    server = Server(settings.listen, scheduler.mounts, kernel.shell, quiet_streams=True)
    await scheduler.lease.renew()
    await server.start()

    async def drain() -> None:
        scheduler.sessions.drain("this scheduler is stopping; another one takes over")

    try:
        await run_until(
            stopping,
            kernel.follow(scheduler.followed),
            kernel.keep_clock(),
            scheduler.directives.push(),
            scheduler.lease.keep(),
            scheduler.contacts.keep(),
            scheduler.session_driver.watch(),
            lead(settings.postgres_url, "scheduler.timers", scheduler.timers.lead),
        )
    finally:
        await server.stop(grace_s=2, drain=drain)
        await scheduler.appender.stop()
        await kernel.close()
