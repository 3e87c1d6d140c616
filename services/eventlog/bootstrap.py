"""Wiring of the event log's service: the log's tables, the relay to NATS, webhooks, and EventLogService."""

import asyncio
from pathlib import Path

from pydantic import Field

from protos.eventlog.v1.eventlog_pb2_grpc import (
    add_EventLogServiceServicer_to_server,
    add_WebhookServiceServicer_to_server,
)
from services.eventlog.api import EventLogApi
from services.eventlog.leadership import lead
from services.eventlog.relay import Relay
from services.eventlog.webhook_api import WebhookApi
from services.eventlog.webhook_delivery import Deliveries
from services.eventlog.webhook_sender import http_sender
from services.rpc.kernel import open_kernel
from services.rpc.process import run_until
from services.rpc.server import Mount, Server
from services.rpc.settings import ServiceSettings

MIGRATIONS = Path(__file__).parent / "migrations"


class Settings(ServiceSettings):
    """Settings of the service eventlog."""

    webhook_allow_private: bool = Field(
        False, description="let webhooks go to this machine and to private networks; see docs/how-to/webhooks.md"
    )


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set."""
    kernel = await open_kernel(settings, "eventlog", MIGRATIONS)
    relay = Relay(kernel.pool, kernel.bus)
    private = settings.webhook_allow_private
    async with http_sender(private) as sender:
        deliveries = Deliveries(sender, kernel.clock)
        mounts: list[Mount] = [
            (add_EventLogServiceServicer_to_server, EventLogApi(kernel), "tether.eventlog.v1.EventLogService"),
            (
                add_WebhookServiceServicer_to_server,
                WebhookApi(kernel.pool, private, deliveries.changed),
                "tether.eventlog.v1.WebhookService",
            ),
        ]
        server = Server(settings.listen, mounts, kernel.shell)
        await server.start()
        try:
            await run_until(
                stopping,
                kernel.follow(deliveries.told),
                kernel.keep_clock(),
                lead(settings.postgres_url, "eventlog.relay", relay.lead),
                lead(settings.postgres_url, "eventlog.webhooks", deliveries.lead),
            )
        finally:
            await server.stop(grace_s=2)
            await kernel.close()
