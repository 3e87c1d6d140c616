"""The laws of the log: contiguous, in commit order, all or nothing, once, for ever."""

import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from protos.scheduler.v1.access_pb2 import CreateWorkspaceResponse
from services.clock import PlatformClock
from services.eventlog.append import Append, Appended, Conflict, LogUnavailable, Request, RequestIdReused
from services.eventlog.appender import Appender
from services.eventlog.bootstrap import MIGRATIONS
from services.eventlog.read import Filter, read_head, read_range, read_stream
from tests.support.log import appender_on, create_log, created, pool_on
from tests.support.platform import DatabaseUrls, SharedPostgres


async def test_positions_are_contiguous_and_in_commit_order_whoever_appends(database: DatabaseUrls) -> None:
    await create_log(database)
    async with appender_on(database.scheduler) as one, appender_on(database.quota) as two:
        done = await asyncio.gather(*[(one, two)[i % 2].append(created(f"ws_{i % 7}")) for i in range(500)])
    assert sorted(appended.position for appended in done) == list(range(1, 501))
    async with pool_on(database.quota) as pool:
        records = [record async for page in read_range(pool, 1, 500) for record in page]
    assert [record.position for record in records] == list(range(1, 501))
    moments = [record.recorded_at_us for record in records]
    assert moments == sorted(moments)
    for stream in {record.stream_id for record in records}:
        versions = [record.stream_version for record in records if record.stream_id == stream]
        assert versions == list(range(1, len(versions) + 1))


async def test_of_two_commands_that_expect_the_same_version_one_is_refused(database: DatabaseUrls) -> None:
    await create_log(database)
    async with appender_on(database.scheduler) as appender:
        outcomes = await asyncio.gather(
            *[appender.append(created("ws_1", expected=0)) for _ in range(20)], return_exceptions=True
        )
    assert sum(isinstance(outcome, Appended) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 19


async def test_a_command_over_several_streams_is_appended_whole_or_not_at_all(database: DatabaseUrls) -> None:
    await create_log(database)
    async with appender_on(database.scheduler) as appender, pool_on(database.scheduler) as pool:
        await appender.append(created("ws_1"))
        both = created("ws_2", expected=0).streams[0], created("ws_1", expected=0).streams[0]
        with pytest.raises(Conflict, match="ws_1 is at version 1, not 0"):
            await appender.append(Append("ws_test", both, actor="service:test"))
        assert (await read_head(pool)).position == 1
        assert await read_stream(pool, "workspace", "ws_2") == []


async def test_a_repeated_request_is_given_the_first_answer_and_appends_nothing(database: DatabaseUrls) -> None:
    await create_log(database)
    request = Request("token:t", "r-1", b"content")
    append = created("ws_1")._replace(
        request=request,
        respond=lambda records: CreateWorkspaceResponse(position=records[-1].position),
    )
    async with appender_on(database.scheduler) as appender, pool_on(database.scheduler) as pool:
        first, again = await asyncio.gather(appender.append(append), appender.append(append))
        later = await appender.append(append)
        assert first.response is not None
        assert again.repeated == later.repeated == first.response
        assert CreateWorkspaceResponse.FromString(first.response).position == 1
        with pytest.raises(RequestIdReused, match="r-1 was used for another request"):
            await appender.append(append._replace(request=replace(request, content_sha256=b"other")))
        assert (await read_head(pool)).position == 1


@pytest.mark.parametrize(
    "statement",
    [
        "update eventlog.events set type = 'x'",
        "delete from eventlog.events",
        "truncate eventlog.events",
        "delete from eventlog.events_000000",
        "truncate eventlog.events_000000",
    ],
)
async def test_nobody_changes_the_past(database: DatabaseUrls, statement: str) -> None:
    await create_log(database)
    async with appender_on(database.scheduler) as appender:
        await appender.append(created("ws_1"))
    for url, error in (
        (database.scheduler, asyncpg.InsufficientPrivilegeError),
        (database.eventlog, asyncpg.RaiseError),
        (database.admin, asyncpg.RaiseError),
    ):
        connection = await asyncpg.connect(url)
        try:
            with pytest.raises(error):
                await connection.execute(statement)
        finally:
            await connection.close()


async def test_migrations_started_by_several_processes_at_once_are_applied_once(database: DatabaseUrls) -> None:
    await asyncio.gather(*[create_log(database) for _ in range(5)])
    async with pool_on(database.eventlog) as pool:
        files = len(list(MIGRATIONS.glob("*.sql")))
        assert await pool.fetchval("select count(*) from eventlog.schema_version") == files


async def test_killing_postgres_under_load_loses_and_doubles_nothing(
    database: DatabaseUrls, postgres: SharedPostgres
) -> None:
    await create_log(database)
    async with appender_on(database.scheduler) as appender:

        async def one(number: int) -> Appended:
            return await appender.append(created(f"ws_{number % 11}", name=str(number)), patience_s=60)

        async def all_of(numbers: range) -> list[Appended]:
            # A few at a time, so that many transactions are cut by the kills.
            return [
                appended
                for start in numbers[::5]
                for appended in await asyncio.gather(*map(one, range(start, start + 5)))
            ]

        load = asyncio.create_task(all_of(range(2000)))
        seen = 0
        for _ in range(3):
            async with pool_on(database.scheduler) as pool:
                while (await read_head(pool)).position < seen + 200:
                    assert not load.done()
            postgres.kill()
            await postgres.start()
            seen += 200
        done = await load
    async with pool_on(database.scheduler) as pool:
        records = [record async for page in read_range(pool, 1, 1 << 60, Filter()) for record in page]
    assert [record.position for record in records] == list(range(1, 2001))
    names = sorted(int(record.payload.value[2:]) for record in records)
    assert names == list(range(2000))
    by_position = {record.position: record for record in records}
    assert all(by_position[a.position].event_id == a.records[-1].event_id for a in done)


async def test_an_appender_that_is_stopped_in_the_middle_of_a_copy_stops(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_log(database)
    appender = Appender(database.scheduler, "test", PlatformClock())
    appender.start()
    await appender.append(created("ws_1"))
    copy = asyncpg.Connection.copy_records_to_table

    async def cancelled_meanwhile(self: asyncpg.Connection, table: str, **more: Any) -> str:
        if table == "events":
            # It has handed the rows to PostgreSQL and is about to answer the last batch's callers.
            next(task for task in asyncio.all_tasks() if task.get_name() == "appender").cancel()
        return str(await copy(self, table, **more))

    monkeypatch.setattr(asyncpg.Connection, "copy_records_to_table", cancelled_meanwhile)
    with pytest.raises(LogUnavailable):
        async with asyncio.timeout(5):
            await appender.append(created("ws_2"))
    await appender.stop()
