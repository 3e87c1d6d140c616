"""A receiver of webhooks: a real HTTP server on loopback that answers as the test says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from deploy.local.ports import free_port
from tests.support.eventually import eventually


@dataclass
class Taken:
    """One request as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told


class Receiver:
    """Answers with the statuses in `answers`, in order, then with 200. A status of 0 hangs until `release` is set."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.taken: list[Taken] = []
        self.answers: list[int] = []
        self.release = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.taken.append(Taken(dict(request.headers), body))
        status = self.answers.pop(0) if self.answers else 200
        if not status:
            await self.release.wait()
            status = 200
        return web.Response(status=status, headers={"Location": self.url + "/elsewhere"} if status == 302 else {})

    @property
    def positions(self) -> list[int]:
        return [one.told["position"] for one in self.taken]

    async def has(self, *positions: int) -> None:
        """Exactly these, in this order."""
        await eventually(lambda: len(self.taken) >= len(positions), 15, f"deliveries of {positions}")
        assert self.positions == list(positions)


@asynccontextmanager
async def receiver(port: int = 0) -> AsyncIterator[Receiver]:
    made = Receiver(port or free_port())
    async with serving(made):
        yield made


@asynccontextmanager
async def serving(made: Receiver) -> AsyncIterator[None]:
    """The receiver is up until the end of the block; it may come up again."""
    made.release.clear()
    application = web.Application()
    application.router.add_post("/{path:.*}", made.handle)
    # Hanging requests do not keep the test waiting.
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(made.url.rsplit(":", 1)[1].split("/")[0])).start()
    try:
        yield
    finally:
        made.release.set()
        await runner.cleanup()
