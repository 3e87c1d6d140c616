"""NATS as the services use it: one connection that comes and goes, and never is the truth."""

import asyncio
from urllib.parse import urlsplit

import nats
import structlog
from nats.aio.client import Client

_log = structlog.get_logger()

# Every event, as `tether.events.<workspace>.<kind>.<Event>`.
EVENTS = "tether.events.>"
# A hint that the head has moved, so that the relay need not poll for it.
HEAD = "tether.head"


def subject(workspace_id: str, kind: str, event: str) -> str:
    return f"tether.events.{workspace_id or '_'}.{kind}.{event}"


class Bus:
    """A NATS connection that is dialled again for as long as it takes. An empty URL means: no bus at all."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self._task: asyncio.Task[None] | None = None
        self.client: Client | None = None
        self.connected = asyncio.Event()

    def start(self) -> None:
        if self._url:
            self._task = asyncio.create_task(self._connect(), name="bus")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.client is not None:
            await self.client.close()

    def hint_head(self) -> None:
        """Tell the relay that there is something new; lost where there is no connection, and that is fine."""
        if self.client is not None and self.client.is_connected:
            task = asyncio.ensure_future(self.client.publish(HEAD, b""))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _connect(self) -> None:
        async def on_error(error: Exception) -> None:
            _log.info("NATS", error=str(error) or type(error).__name__)

        async def on_disconnect() -> None:
            self.connected.clear()

        async def on_connect() -> None:
            self.connected.set()

        parts = urlsplit(self._url)
        delay_s = 0.1
        while True:
            try:
                self.client = await nats.connect(
                    f"nats://{parts.hostname}:{parts.port or 4222}",
                    user=parts.username,
                    password=parts.password,
                    name=self._name,
                    connect_timeout=2,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    error_cb=on_error,
                    disconnected_cb=on_disconnect,
                    reconnected_cb=on_connect,
                )
            except (OSError, nats.errors.Error, TimeoutError) as error:
                _log.info("waiting for NATS", error=str(error) or type(error).__name__)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 2)
            else:
                self.connected.set()
                return
