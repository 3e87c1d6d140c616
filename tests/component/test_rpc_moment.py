"""The past that a moment names: within the log, and final."""

import asyncio
import uuid

import asyncpg
import pytest

from protos.common.v1.moment_pb2 import Moment
from services.eventlog.appender import take_append_lock
from services.eventlog.catalogue import COLUMNS
from services.rpc.errors import InvalidField, Unavailable
from services.rpc.moment import AsOf, resolve
from tests.support.eventually import eventually
from tests.support.log import appender_on, create_log, created, pool_on
from tests.support.platform import DatabaseUrls

APPEND = (
    f"insert into eventlog.events ({COLUMNS}) values ($1, $2, '', '', '', 1, '', 1, '', clock_timestamp(), '', '', '') "
    "returning floor(extract(epoch from recorded_at) * 1000)::bigint"
)


async def test_a_position_is_as_of_the_moment_at_which_it_was_recorded(database: DatabaseUrls) -> None:
    await create_log(database)
    async with appender_on(database.scheduler) as appender, pool_on(database.quota) as pool:
        records = [(await appender.append(created("ws_1"))).records[0] for _ in range(3)]
        for record in records:
            at_ms = record.recorded_at_us // 1000
            assert await resolve(pool, Moment(position=record.position)) == AsOf(record.position, at_ms)
            known = sum(one.recorded_at_us // 1000 <= at_ms for one in records)
            assert await resolve(pool, Moment(at_ms=at_ms)) == AsOf(known, at_ms)
        before = Moment(at_ms=records[0].recorded_at_us // 1000 - 1)
        assert (await resolve(pool, before)).position == 0


@pytest.mark.parametrize(
    ("moment", "sentence"),
    [
        (Moment(position=3), "as_of is '#3', but the log goes from #1 to #2"),
        (Moment(position=0), "as_of is '#0', but the log goes from #1 to #2"),
        (Moment(at_ms=-1), "as_of is '-1 ms', but times count from 1970 on"),
        (Moment(at_ms=4_102_444_800_000), "as_of is '2100-01-01 00:00:00 UTC', but it lies in the future"),
        (Moment(at_ms=2**63 - 1), "as_of is '9223372036854775807 ms', but it lies in the future"),
        (Moment(), "it names a position or a time"),
    ],
    ids=str,
)
async def test_a_moment_that_the_log_has_not_reached_is_refused(
    database: DatabaseUrls, moment: Moment, sentence: str
) -> None:
    await create_log(database)
    async with appender_on(database.scheduler) as appender, pool_on(database.quota) as pool:
        await appender.append(created("ws_1", events=2))
        with pytest.raises(InvalidField, match=sentence):
            await resolve(pool, moment)


async def test_of_an_empty_log_no_position_can_be_asked_for(database: DatabaseUrls) -> None:
    await create_log(database)
    async with pool_on(database.quota) as pool:
        assert await resolve(pool, Moment(at_ms=1000)) == AsOf(0, 1000)
        with pytest.raises(InvalidField, match="the log is empty"):
            await resolve(pool, Moment(position=1))


async def test_what_was_recorded_before_a_moment_and_is_not_committed_yet_is_waited_for(database: DatabaseUrls) -> None:
    await create_log(database)
    appending = await asyncpg.connect(database.scheduler)
    async with pool_on(database.quota) as pool:

        async def waits() -> bool:
            return bool(await pool.fetchval("select exists(select from pg_locks where not granted)"))

        async with appending.transaction():
            await take_append_lock(appending)
            at_ms = await appending.fetchval(APPEND, 1, uuid.UUID(int=1))
            answer = asyncio.ensure_future(resolve(pool, Moment(at_ms=at_ms)))
            await eventually(waits, what="the question waiting for the append")
            assert not answer.done()
        assert await answer == AsOf(1, at_ms)
    await appending.close()


async def test_the_past_waits_for_no_append_and_the_present_not_for_ever(database: DatabaseUrls) -> None:
    await create_log(database)
    async with appender_on(database.scheduler) as appender:
        first, last = [(await appender.append(created("ws_1"))).records[0].recorded_at_us // 1000 for _ in range(2)]
    appending = await asyncpg.connect(database.scheduler)
    async with pool_on(database.quota) as pool, appending.transaction():
        await take_append_lock(appending)
        # The pool's only connection so far.
        await pool.execute("set lock_timeout = '100ms'")
        assert (await resolve(pool, Moment(at_ms=first - 1))).position == 0
        assert (await resolve(pool, Moment(position=2))).at_ms == last
        with pytest.raises(Unavailable, match="takes no appends at the moment; repeat the request in a minute"):
            await resolve(pool, Moment(at_ms=last))
    await appending.close()
