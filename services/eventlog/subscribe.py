"""A subscription to the whole log: every event once, in position order, from NATS or else from PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.bus import EVENTS, Bus
from services.eventlog.read import PAGE, Head, read_head, read_page
from services.postgres import LOST, Pool

_log = structlog.get_logger()

# How long the bus may say nothing before PostgreSQL is asked for the head.
_SILENCE_S = 1.0
# Records that may wait for a slow consumer; more are dropped here and come from PostgreSQL later.
_MAX_WAITING = 10_000


class LogReplaced(Exception):
    """The database holds another log than the one that was read: restored, or a standby that had not all of it.

    What was learned from the old one may never have happened. A process that raises this ends, starts anew, and its
    read models are rebuilt.
    """

    def __init__(self, position: int, head: Head) -> None:
        super().__init__(
            f"the log was replaced: it is {head.log_id} now and ends at {head.position}, while {position} was read"
        )


class Subscription:
    """Yields the events that follow `position`. One consumer; use it once.

    NATS delivers what is published while we listen (no consumer state there, so its data may be deleted at any time).
    A hole in the positions, a second of silence, or a NATS that is gone is filled from PostgreSQL by `_fill`.
    Raises LogReplaced where the log is another one than before.
    """

    def __init__(self, pool: Pool, bus: Bus, position: int) -> None:
        self._pool, self._bus = pool, bus
        # Everything up to here has been yielded.
        self.position = position
        # The log that is being read, and how far it is known to go: a position to begin at may lie ahead of it.
        self._log_id = ""
        self._known_head = 0
        # When it was looked at last, by the loop's time.
        self._moved_at = 0.0
        self._arrived: asyncio.Queue[EventRecord] = asyncio.Queue(_MAX_WAITING)
        self._nats: NatsSubscription | None = None

    async def batches(self) -> AsyncIterator[list[EventRecord]]:
        """Runs of records without a hole, none of them empty, until cancelled or closed."""
        try:
            async for run in self._fill():
                yield run
            while True:
                await self._listen()
                arrived = await self._next()
                if arrived is None or arrived.position > self.position + 1 or self._stands_still():
                    async for run in self._fill():
                        yield run
                run = self._continue(arrived)
                if run:
                    yield run
        finally:
            if self._nats is not None and self._bus.connected.is_set():
                await self._nats.unsubscribe()

    async def _listen(self) -> None:
        if self._nats is None and self._bus.client is not None:
            # The client subscribes again by itself when it reconnects.
            self._nats = await self._bus.client.subscribe(EVENTS, cb=self._on_message)

    async def _on_message(self, message: Msg) -> None:
        try:
            record = EventRecord.FromString(message.data)
        except DecodeError:
            _log.warning("a message on the events' subject is no event", subject=message.subject)
            return
        if not self._arrived.full():
            self._arrived.put_nowait(record)

    async def _next(self) -> EventRecord | None:
        try:
            async with asyncio.timeout(_SILENCE_S):
                return await self._arrived.get()
        except TimeoutError:
            return None

    def _stands_still(self) -> bool:
        """Whether only what is known already has arrived for a while: a stream that is filled anew, or another log."""
        return asyncio.get_running_loop().time() - self._moved_at > _SILENCE_S

    def _continue(self, arrived: EventRecord | None) -> list[EventRecord]:
        """The run that follows the position, made of what has arrived."""
        run: list[EventRecord] = []
        while arrived is not None:
            if arrived.position == self.position + 1:
                run.append(arrived)
                self.position += 1
            elif arrived.position > self.position + 1:
                # A hole: PostgreSQL has it all, this record too.
                break
            arrived = self._arrived.get_nowait() if len(run) < PAGE and not self._arrived.empty() else None
        if run:
            self._known_head = max(self._known_head, self.position)
            self._moved_at = asyncio.get_running_loop().time()
        return run

    async def _fill(self) -> AsyncIterator[list[EventRecord]]:
        """What PostgreSQL holds after the position. Without PostgreSQL there is nothing to tell, so it waits."""
        delay_s = 0.1
        while True:
            try:
                head = await read_head(self._pool)
                self._check(head)
                page = await read_page(self._pool, self.position + 1, head.position)
            except LOST as error:
                _log.info("the subscription waits for PostgreSQL", error=str(error), position=self.position)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 2)
                continue
            if page:
                self.position = page[-1].position
                yield page
            if self.position >= head.position:
                return

    def _check(self, head: Head) -> None:
        if head.position < self._known_head or head.log_id != (self._log_id or head.log_id):
            raise LogReplaced(max(self.position, self._known_head), head)
        self._log_id, self._known_head = head.log_id, head.position
        self._moved_at = asyncio.get_running_loop().time()
