"""One service as a process of its own, on a log that is there."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from deploy.local.ports import free_port
from services.ids import sha256
from tests.support.platform import DatabaseUrls
from tests.support.servers import OPERATOR_TOKEN

_START_S = 60
_END_S = 20


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: its process, where it listens, and a channel to it."""

    pid: int
    address: str
    channel: grpc.aio.Channel


@asynccontextmanager
async def service_process(name: str, database: DatabaseUrls) -> AsyncIterator[Service]:
    """`python -m services.<name>` without NATS until the end of the block; yields once it answers."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "TETHER_POSTGRES_URL": getattr(database, name),
        "TETHER_LISTEN": address,
        "TETHER_OPERATOR_TOKEN_SHA256": sha256(OPERATOR_TOKEN).hex(),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"services.{name}", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            async with asyncio.timeout(_START_S):
                await channel.channel_ready()
            yield Service(process.pid, address, channel)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
