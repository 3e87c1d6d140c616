"""A log that was restored, or a standby that had not all of it: whoever knew more of the old one notices."""

import asyncio
import os
import sys
from collections.abc import Sequence

import asyncpg
import nats as nats_client
import pytest

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.bus import EVENTS, Bus
from services.eventlog.leadership import lead
from services.eventlog.log_id import renew
from services.eventlog.projection import Projection
from services.eventlog.read import read_head
from services.eventlog.relay import STREAM, Relay
from services.eventlog.subscribe import LogReplaced, Subscription
from services.postgres import Connection, Pool
from services.rpc.shell import settle
from tests.support.eventually import eventually
from tests.support.log import appender_on, create_log, created, pool_on
from tests.support.platform import DatabaseUrls, SharedNats


async def append(database: DatabaseUrls, count: int) -> None:
    async with appender_on(database.eventlog) as appender:
        for _ in range(count):
            await appender.append(created("ws_1"))


async def as_superuser(database: DatabaseUrls, *statements: str) -> None:
    connection = await asyncpg.connect(database.admin)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def lose_events_after(database: DatabaseUrls, position: int) -> None:
    """What the promotion of a standby does that had not all of the log."""
    await as_superuser(
        database,
        "set session_replication_role = replica",
        f"delete from eventlog.events where position > {position}",
        f"update eventlog.streams set version = {position}",
    )


async def read_until_replaced(pool: Pool, bus: Bus, ready: asyncio.Event, after: int = 0) -> None:
    async for records in Subscription(pool, bus, after).batches():
        if records[-1].position >= 5:
            ready.set()


@pytest.mark.parametrize("how", ["another id", "a shorter log"])
async def test_a_subscription_ends_where_the_log_is_another_one(database: DatabaseUrls, how: str) -> None:
    await create_log(database)
    await append(database, 5)
    async with pool_on(database.eventlog) as pool:
        ready = asyncio.Event()
        reading = asyncio.create_task(read_until_replaced(pool, Bus("", "test"), ready))
        async with asyncio.timeout(10):
            await ready.wait()
        if how == "another id":
            async with pool.acquire() as connection:
                await renew(connection)
        else:
            await lose_events_after(database, 3)
        with pytest.raises(LogReplaced, match="the log was replaced"):
            async with asyncio.timeout(10):
                await reading


async def test_a_position_ahead_of_the_log_is_waited_for(database: DatabaseUrls) -> None:
    """A reader may ask for what has not happened yet; that is no replaced log."""
    await create_log(database)
    await append(database, 1)
    async with pool_on(database.eventlog) as pool:
        found = asyncio.ensure_future(anext(Subscription(pool, Bus("", "test"), 3).batches()))
        await append(database, 4)
        async with asyncio.timeout(10):
            assert [record.position for record in await found] == [4, 5]


class Counted:
    """A read model: how many events there were."""

    name = "counted"

    async def clear(self, connection: Connection) -> None:
        await connection.execute("truncate quota.counted")

    async def apply(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        await connection.execute("insert into quota.counted select generate_series(1, $1::int)", len(records))


@pytest.mark.parametrize("how", ["another id", "a shorter log"])
async def test_a_read_model_of_another_log_is_rebuilt(database: DatabaseUrls, how: str) -> None:
    await create_log(database)
    await append(database, 5)
    tables = (
        "create table quota.checkpoints (name text primary key, position bigint, log_id uuid)",
        "create table quota.counted (number int)",
        "alter table quota.checkpoints owner to tether_quota",
        "alter table quota.counted owner to tether_quota",
    )
    await as_superuser(database, *tables)
    async with pool_on(database.quota) as pool:

        async def built(position: int) -> None:
            projection = Projection(database.quota, pool, Bus("", "test"), "quota", Counted())
            running = asyncio.create_task(projection.run())
            log_id = (await read_head(pool)).log_id
            checkpoint = "select log_id::text || ' ' || position from quota.checkpoints"

            async def reached() -> bool:
                found: str | None = await pool.fetchval(checkpoint)
                return found == f"{log_id} {position}"

            try:
                await eventually(reached, 10, f"position {position} of the log")
                assert await pool.fetchval("select count(*) from quota.counted") == position
            finally:
                await settle(running)

        await built(5)
        if how == "another id":
            async with pool_on(database.eventlog) as owner, owner.acquire() as connection:
                await renew(connection)
            await built(5)
        else:
            await lose_events_after(database, 3)
            await built(3)


@pytest.mark.parametrize("newer", [True, False], ids=["another id", "ahead of the log"])
async def test_a_longer_stream_of_the_old_log_is_replaced_and_filled_anew(
    database: DatabaseUrls, own_nats: SharedNats, newer: bool
) -> None:
    await create_log(database)
    await append(database, 7)
    bus = Bus(own_nats.url, "test")
    bus.start()
    try:
        async with pool_on(database.eventlog) as pool:
            log_id = (await read_head(pool)).log_id
            client = await nats_client.connect(own_nats.url)
            stream = client.jetstream()
            await stream.add_stream(name=STREAM, subjects=[EVENTS], metadata={"log_id": "older" if newer else log_id})
            for position in range(1, 21):
                await stream.publish(
                    "tether.events.w.job.JobStarted", EventRecord(position=position).SerializeToString()
                )
            relaying = asyncio.create_task(lead(database.eventlog, "test.relay", Relay(pool, bus).lead))

            async def positions() -> list[int]:
                info = await stream.stream_info(STREAM)
                assert (info.config.metadata or {})["log_id"] == log_id
                span = range(info.state.first_seq, info.state.last_seq + 1)
                found = [await stream.get_msg(STREAM, seq=number) for number in span]
                return [EventRecord.FromString(message.data or b"").position for message in found]

            async def filled() -> bool:
                return await positions() == list(range(1, 8))

            await eventually(filled, 15, "the log's own events in NATS")
            await append(database, 2)

            async def goes_on() -> bool:
                return await positions() == list(range(1, 10))

            await eventually(goes_on, 15, "the next events")
            await settle(relaying)
            await client.close()
    finally:
        await bus.stop()


async def test_a_reader_of_hours_keeps_no_new_partition_waiting(database: DatabaseUrls) -> None:
    """A backup holds its lock on the table to its end; appenders must not queue behind it."""
    await create_log(database)
    await append(database, 1)
    reader = await asyncpg.connect(database.eventlog)
    async with pool_on(database.scheduler) as pool, reader.transaction():
        await reader.execute("lock table eventlog.events in access share mode")
        async with asyncio.timeout(5):
            await pool.execute("select eventlog.ensure_partition(20000000)")
            await pool.execute("select eventlog.ensure_partition(20000000)")
    await reader.close()
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await as_superuser(database, "truncate eventlog.events_000002")
    async with pool_on(database.eventlog) as pool:
        indexes = "select count(*) from pg_indexes where schemaname = 'eventlog' and tablename = $1"
        assert await pool.fetchval(indexes, "events_000002") == await pool.fetchval(indexes, "events_000000")
        granted = "select relacl is not null from pg_class where relname = $1"
        assert await pool.fetchval(granted, "events_000002") == await pool.fetchval(granted, "events_000000")


async def test_a_service_ends_with_one_sentence_to_be_started_anew(database: DatabaseUrls) -> None:
    await create_log(database)
    await append(database, 3)
    environment = {**os.environ, "TETHER_POSTGRES_URL": database.eventlog, "TETHER_LISTEN": "127.0.0.1:0"}
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.eventlog"), env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert service.stderr is not None
        async with asyncio.timeout(30):
            while b'"serving"' not in await service.stderr.readline():
                assert service.returncode is None
            # Its followers have begun when they lead.
            while b'"leading"' not in await service.stderr.readline():
                assert service.returncode is None
        async with pool_on(database.eventlog) as pool, pool.acquire() as connection:
            await renew(connection)
        async with asyncio.timeout(20):
            said = (await service.stderr.read()).decode()
            assert await service.wait() == 1
        assert "the log was replaced" in said.splitlines()[-1]
        assert "Traceback" not in said
    finally:
        if service.returncode is None:
            service.kill()
            await service.wait()
