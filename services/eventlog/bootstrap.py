"""Wiring of the event log's service: the log's tables, the relay to NATS, and EventLogService."""

import asyncio
from pathlib import Path

from protos.eventlog.v1.eventlog_pb2_grpc import add_EventLogServiceServicer_to_server
from services.eventlog.api import EventLogApi
from services.eventlog.leadership import lead
from services.eventlog.relay import Relay
from services.rpc.kernel import open_kernel
from services.rpc.process import run_until
from services.rpc.server import Server
from services.rpc.settings import ServiceSettings

MIGRATIONS = Path(__file__).parent / "migrations"


class Settings(ServiceSettings):
    """Settings of the service eventlog."""


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set."""
    kernel = await open_kernel(settings, "eventlog", MIGRATIONS)
    relay = Relay(kernel.pool, kernel.bus)
    mounts = [(add_EventLogServiceServicer_to_server, EventLogApi(kernel), "tether.eventlog.v1.EventLogService")]
    server = Server(settings.listen, mounts, kernel.shell)
    await server.start()
    try:
        await run_until(
            stopping, kernel.follow(), kernel.keep_clock(), lead(settings.postgres_url, "eventlog.relay", relay.lead)
        )
    finally:
        await server.stop(grace_s=2)
        await kernel.close()
