"""The quota service as a process of its own, to be killed with a signal."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deploy.local.ports import free_port


@asynccontextmanager
async def quota_process(postgres_url: str, nats_url: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m services.quota` until the end of the block, where it is killed."""
    environment = {
        **os.environ,
        "TETHER_POSTGRES_URL": postgres_url,
        "TETHER_NATS_URL": nats_url,
        "TETHER_LISTEN": f"127.0.0.1:{free_port()}",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.quota", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
