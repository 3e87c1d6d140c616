"""Wakes the watchers of a job when something of it was stored, here or in another replica."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from services.eventlog.bus import Bus

# A hint after the commit; lost where there is no connection, and that is fine: watchers look each second anyway.
_SUBJECT = "tether.metrics."


class Hub:
    """Use `stored` for what this process has committed. Run `listen` for the other replicas' hints."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._watchers: dict[str, set[asyncio.Event]] = {}
        # Jobs of which the other replicas are to be told; a name waits there once, however often it is stored.
        self._untold: set[str] = set()
        self._telling: asyncio.Task[None] | None = None

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job may have something new; the watcher clears it before it looks."""
        event = asyncio.Event()
        self._watchers.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._watchers[job_id].discard(event)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    def stored(self, job_ids: Collection[str]) -> None:
        self._wake(job_ids)
        if self._bus.client is not None and self._bus.client.is_connected:
            self._untold.update(job_ids)
            if self._telling is None or self._telling.done():
                self._telling = asyncio.create_task(self._tell())

    async def listen(self) -> None:
        """Take other replicas' hints, until cancelled."""
        await self._bus.connected.wait()
        client = self._bus.client
        assert client is not None  # connected

        async def on_hint(message: Msg) -> None:
            self._wake([message.subject.removeprefix(_SUBJECT)])

        # The client subscribes again by itself when it reconnects.
        await client.subscribe(_SUBJECT + "*", cb=on_hint)
        await asyncio.Event().wait()

    def _wake(self, job_ids: Collection[str]) -> None:
        for job_id in job_ids:
            for event in self._watchers.get(job_id, ()):
                event.set()

    async def _tell(self) -> None:
        client = self._bus.client
        assert client is not None  # checked by the caller
        while self._untold:
            try:
                await client.publish(_SUBJECT + self._untold.pop(), b"")
            except (NatsError, OSError):
                self._untold.clear()
