"""The relay: publishes every event of the log to JetStream, in position order, fenced against a second relay."""

import asyncio
from dataclasses import replace

import nats.errors
import nats.js.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, PubAck, StorageType, StreamConfig, StreamInfo

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.bus import EVENTS, HEAD, Bus, subject
from services.eventlog.read import read_head, read_page
from services.postgres import Connection, Pool

_log = structlog.get_logger()

STREAM = "TETHER_EVENTS"
_IN_FLIGHT = 500
_ACK_TIMEOUT_S = 5
_POLL_S = 1.0
# Newest events that a new stream gets: half a second's work, so that what happens now is hardly late.
_REFILL = 10_000
# JetStream is delivery, not storage: a day or a gibibyte for consumers outside the platform.
_CONFIG = StreamConfig(
    name=STREAM,
    subjects=[EVENTS],
    storage=StorageType.FILE,
    discard=DiscardPolicy.OLD,
    max_age=24 * 3600,
    max_bytes=1 << 30,
)


class Relay:
    """Run `lead` under the relay's leadership."""

    def __init__(self, pool: Pool, bus: Bus) -> None:
        self._pool, self._bus = pool, bus
        self._hinted = asyncio.Event()

    async def lead(self, connection: Connection) -> None:
        """Publish until PostgreSQL is lost (raises) or cancelled; waits for a NATS that is gone."""
        while True:
            await self._bus.connected.wait()
            try:
                await self._publish_all(connection)
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                _log.info("the relay starts over with NATS", error=str(error) or type(error).__name__)
                await connection.fetchval("select 1")
                await asyncio.sleep(0.2)

    async def _publish_all(self, connection: Connection) -> None:
        client = self._bus.client
        assert client is not None  # connected
        stream = client.jetstream(timeout=_ACK_TIMEOUT_S)
        position, sequence = await self._resume(stream)

        async def on_hint(_message: object) -> None:
            self._hinted.set()

        hints = await client.subscribe(HEAD, cb=on_hint)
        try:
            while True:
                self._hinted.clear()
                page = await read_page(connection, position + 1, 1 << 62, limit=_IN_FLIGHT)
                if page:
                    sequence = await self._publish(stream, page, sequence)
                    position = page[-1].position
                else:
                    await self._wait_for_more()
                    if not self._bus.connected.is_set():
                        return
        finally:
            if self._bus.connected.is_set():
                await hints.unsubscribe()

    async def _wait_for_more(self) -> None:
        try:
            async with asyncio.timeout(_POLL_S):
                await self._hinted.wait()
        except TimeoutError:
            return

    async def _resume(self, stream: JetStreamContext) -> tuple[int, int]:
        """Position and stream sequence of what was published last.

        A new stream is filled with the newest events, for consumers outside the platform; one that was emptied goes on
        at the head. Our own subscribers fill what they miss from PostgreSQL.
        """
        head = await read_head(self._pool)
        try:
            info = await stream.stream_info(STREAM)
            last_position = await self._last_position(stream, info)
            if (info.config.metadata or {}).get("log_id") == head.log_id and (last_position or 0) <= head.position:
                return head.position if last_position is None else last_position, info.state.last_seq
            # Left over from another log: its positions are not ours.
            await stream.delete_stream(STREAM)
        except nats.js.errors.NotFoundError:
            pass
        made = await stream.add_stream(replace(_CONFIG, metadata={"log_id": head.log_id}))
        return max(head.position - _REFILL, 0), made.state.last_seq

    async def _last_position(self, stream: JetStreamContext, info: StreamInfo) -> int | None:
        """Of the newest event that the stream holds; None where it holds none."""
        if not info.state.messages:
            return None
        last = await stream.get_msg(STREAM, seq=info.state.last_seq)
        return EventRecord.FromString(last.data).position if last.data is not None else None

    async def _publish(self, stream: JetStreamContext, page: list[EventRecord], sequence: int) -> int:
        """Publish a page and return the sequence of its last message. Raises where another relay was faster."""
        acks: list[asyncio.Future[PubAck]] = []
        for record in page:
            acks.append(
                await stream.publish_async(
                    subject(record.workspace_id, record.stream_kind, record.type),
                    record.SerializeToString(),
                    headers={"Nats-Expected-Last-Sequence": str(sequence), "Nats-Msg-Id": record.event_id},
                )
            )
            sequence += 1
        async with asyncio.timeout(_ACK_TIMEOUT_S):
            done = await asyncio.gather(*acks)
        return done[-1].seq
