"""Services inside the test's process: real gRPC servers on real sockets, on a fresh database."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from deploy.local.ports import free_port
from services.eventlog import bootstrap as eventlog
from services.rpc.settings import ServiceSettings
from services.scheduler import bootstrap as scheduler
from tests.support.eventually import eventually

OPERATOR_TOKEN = "tt_operator"
OPERATOR_SHA256 = hashlib.sha256(OPERATOR_TOKEN.encode()).hexdigest()

# A server that is not there yet is asked again soon.
_IMPATIENT = [(f"grpc.{bound}_reconnect_backoff_ms", 50) for bound in ("initial", "min", "max")]

Serve = Callable[[Any, asyncio.Event], Awaitable[None]]


@asynccontextmanager
async def running(serve: Serve, settings: ServiceSettings) -> AsyncIterator[str]:
    """A service until the end of the block; yields its address once it answers."""
    stopping = asyncio.Event()
    task = asyncio.ensure_future(serve(settings, stopping))
    try:
        async with grpc.aio.insecure_channel(settings.listen, options=_IMPATIENT) as channel:
            ready = asyncio.ensure_future(channel.channel_ready())
            await asyncio.wait([ready, task], timeout=30, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            assert ready.done(), f"{settings.listen} does not answer"
        yield settings.listen
    finally:
        stopping.set()
        await task


def address() -> str:
    return f"127.0.0.1:{free_port()}"


def eventlog_settings(url: str, nats_url: str = "") -> eventlog.Settings:
    return eventlog.Settings(
        postgres_url=url, nats_url=nats_url, listen=address(), operator_token_sha256=OPERATOR_SHA256
    )


def scheduler_settings(url: str, nats_url: str = "", **more: Any) -> scheduler.Settings:
    return scheduler.Settings(
        postgres_url=url, nats_url=nats_url, listen=address(), operator_token_sha256=OPERATOR_SHA256, **more
    )


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a call."""
    return (("authorization", f"Bearer {token}"),)


__all__ = ["OPERATOR_TOKEN", "address", "bearer", "eventlog_settings", "eventually", "running", "scheduler_settings"]
