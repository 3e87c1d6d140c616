"""The log reaches every subscriber, whatever becomes of NATS."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats as nats_client
from nats.js.errors import NotFoundError

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.bus import EVENTS, Bus
from services.eventlog.leadership import lead
from services.eventlog.read import read_head
from services.eventlog.relay import STREAM, Relay
from services.eventlog.subscribe import Subscription
from services.postgres import Pool
from services.rpc.shell import settle
from tests.support.eventually import eventually
from tests.support.log import appender_on, create_log, created, pool_on
from tests.support.platform import DatabaseUrls, SharedNats


class Reader:
    """A subscriber that notes what it is told."""

    def __init__(self, pool: Pool, bus: Bus, after: int = 0) -> None:
        self.positions: list[int] = []
        self._task = asyncio.create_task(self._read(Subscription(pool, bus, after)))

    async def _read(self, subscription: Subscription) -> None:
        async for records in subscription.batches():
            self.positions += [record.position for record in records]

    async def has(self, last: int, timeout_s: float = 20) -> None:
        await eventually(lambda: bool(self.positions) and self.positions[-1] >= last, timeout_s, f"position {last}")
        assert self.positions == list(range(self.positions[0], self.positions[-1] + 1)), (
            "in order, once, without a hole"
        )

    async def stop(self) -> None:
        await settle(self._task)


@asynccontextmanager
async def bus_on(url: str) -> AsyncIterator[Bus]:
    bus = Bus(url, "test")
    bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


@asynccontextmanager
async def relay_on(database: DatabaseUrls, pool: Pool, bus: Bus) -> AsyncIterator[None]:
    task = asyncio.create_task(lead(database.eventlog, "test.relay", Relay(pool, bus).lead))
    try:
        yield
    finally:
        await settle(task)


async def append(database: DatabaseUrls, bus: Bus, count: int) -> None:
    async with appender_on(database.scheduler, on_commit=lambda _: bus.hint_head()) as appender:
        for _ in range(count):
            await appender.append(created("ws_1"))


async def stored(url: str) -> list[EventRecord]:
    """What JetStream holds, in its order."""
    client = await nats_client.connect(url)
    try:
        stream = client.jetstream()
        state = (await stream.stream_info(STREAM)).state
        messages = [await stream.get_msg(STREAM, seq=n) for n in range(state.first_seq, state.last_seq + 1)]
        return [EventRecord.FromString(message.data or b"") for message in messages]
    except NotFoundError:
        return []
    finally:
        await client.close()


async def test_the_relay_publishes_every_event_in_order_under_its_subject(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    await create_log(database)
    async with pool_on(database.eventlog) as pool, bus_on(own_nats.url) as bus, relay_on(database, pool, bus):
        client = await nats_client.connect(own_nats.url)
        mine = await client.subscribe("tether.events.ws_test.workspace.WorkspaceCreated")
        await client.flush()
        async with asyncio.timeout(10):
            await bus.connected.wait()
        reader = Reader(pool, bus)
        await append(database, bus, 1)
        await reader.has(1)
        await append(database, bus, 30)
        await reader.has(31)
        await eventually(lambda: mine.pending_msgs >= 30)
        published = await stored(own_nats.url)
        assert [record.position for record in published] == list(range(published[0].position, 32))
        await reader.stop()
        await client.close()


async def test_without_nats_everything_comes_from_postgres(database: DatabaseUrls) -> None:
    await create_log(database)
    async with pool_on(database.eventlog) as pool, bus_on("") as bus:
        reader = Reader(pool, bus)
        await append(database, bus, 25)
        await reader.has(25)
        await reader.stop()


async def test_a_nats_that_stops_and_loses_its_data_loses_nothing_of_ours(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    await create_log(database)
    async with pool_on(database.eventlog) as pool, bus_on(own_nats.url) as bus, relay_on(database, pool, bus):
        async with asyncio.timeout(10):
            await bus.connected.wait()
        reader = Reader(pool, bus)
        await append(database, bus, 10)
        await reader.has(10)
        await own_nats.stop()
        shutil.rmtree(own_nats.store)
        await append(database, bus, 10)
        await reader.has(20)
        await own_nats.start()
        async with asyncio.timeout(20):
            await bus.connected.wait()
        await append(database, bus, 10)
        await reader.has(30)

        async def published_again() -> bool:
            await append(database, bus, 1)
            return bool(await stored(own_nats.url))

        await eventually(published_again, 20, "an event in the emptied JetStream")
        await reader.has((await read_head(pool)).position)
        await reader.stop()


async def test_what_another_log_left_in_nats_is_replaced(database: DatabaseUrls, own_nats: SharedNats) -> None:
    await create_log(database)
    client = await nats_client.connect(own_nats.url)
    stream = client.jetstream()
    await stream.add_stream(name=STREAM, subjects=[EVENTS], metadata={"log_id": "another"})
    await stream.publish("tether.events.ws.job.JobStarted", EventRecord(position=1_000_000).SerializeToString())
    await client.close()
    async with pool_on(database.eventlog) as pool, bus_on(own_nats.url) as bus, relay_on(database, pool, bus):

        async def ours() -> bool:
            await append(database, bus, 1)
            published = await stored(own_nats.url)
            return bool(published) and published[-1].position < 1_000_000

        await eventually(ours, 20, "our own events in JetStream")


async def test_two_relays_publish_each_event_once(database: DatabaseUrls, own_nats: SharedNats) -> None:
    await create_log(database)
    async with pool_on(database.eventlog) as pool, bus_on(own_nats.url) as one, bus_on(own_nats.url) as two:
        async with relay_on(database, pool, one), relay_on(database, pool, two):
            reader = Reader(pool, two)
            await append(database, one, 40)
            await reader.has(40)

            async def all_there() -> bool:
                published = await stored(own_nats.url)
                return bool(published) and published[-1].position == 40

            await eventually(all_there)
        published = await stored(own_nats.url)
        assert [record.position for record in published] == list(range(published[0].position, 41))
        await reader.stop()
