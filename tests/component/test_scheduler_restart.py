"""A scheduler that goes and comes back: sessions continue, and those that do not are told truthfully."""

import grpc
import pytest

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.runner_pb2 import RunnerDisconnected, RunnerStatus
from protos.events.v1.workspace_pb2 import QuotaExhausted
from protos.scheduler.v1.session_pb2 import ConnectRequest, Heartbeat
from protos.training.v1.training_pb2 import EndReason
from services.eventlog.append import Append, StreamAppend
from services.eventlog.appender import take_append_lock
from services.eventlog.read import read_stream
from services.postgres import Pool
from services.scheduler import bootstrap as scheduler
from services.scheduler.job_api import period_of
from tests.support.box import Box, hello
from tests.support.control import Control, control_plane
from tests.support.eventually import eventually
from tests.support.log import appender_on, create_log, pool_on
from tests.support.platform import DatabaseUrls, SharedPostgres
from tests.support.servers import running, scheduler_settings

LEASE_MS = 2_000


async def history(pool: Pool, runner_id: str) -> list[EventRecord]:
    return await read_stream(pool, "runner", runner_id)


async def test_a_box_that_comes_back_to_the_next_scheduler_was_never_disconnected(database: DatabaseUrls) -> None:
    await create_log(database)
    settings = scheduler_settings(database.scheduler, lease_ms=LEASE_MS)
    async with pool_on(database.scheduler) as pool, grpc.aio.insecure_channel(settings.listen) as channel:
        control = Control(channel, "")
        async with running(scheduler.serve, settings):
            control.token = (await control.create_workspace("test")).secret
            created = await control.create_runner()
            box = Box(channel, created.secret_key)
            await box.connect()
        assert (await box.next("goodbye")).goodbye.reconnect, "it is asked to come back"
        async with running(scheduler.serve, settings):
            await Box(channel, created.secret_key).connect(hello())
            assert (await control.runner()).status == RunnerStatus.RUNNER_STATUS_ONLINE
        types = [record.type for record in await history(pool, created.runner.runner_id)]
        assert types == ["RunnerRegistered", "RunnerConnected", "RunnerStatusChanged", "RunnerConnected"]


async def test_a_box_that_does_not_come_back_was_heard_last_when_its_schedulers_lease_ended(
    database: DatabaseUrls,
) -> None:
    await create_log(database)
    settings = scheduler_settings(database.scheduler, lease_ms=LEASE_MS)
    async with pool_on(database.scheduler) as pool, grpc.aio.insecure_channel(settings.listen) as channel:
        control = Control(channel, "")
        async with running(scheduler.serve, settings):
            control.token = (await control.create_workspace("test")).secret
            created = await control.create_runner()
            await Box(channel, created.secret_key).connect()
        async with running(scheduler.serve, settings):

            async def offline() -> bool:
                return (await control.runner()).status == RunnerStatus.RUNNER_STATUS_OFFLINE

            await eventually(offline)
        told = [r for r in await history(pool, created.runner.runner_id) if r.type == "RunnerDisconnected"]
        gone = RunnerDisconnected.FromString(told[0].payload.value)
        connected_at_ms = (await history(pool, created.runner.runner_id))[1].recorded_at_us // 1000
        assert connected_at_ms < gone.last_contact_at_ms <= told[0].recorded_at_us // 1000
        assert "is gone" in gone.reason


async def test_a_heartbeat_is_not_acknowledged_by_a_scheduler_whose_lease_has_run_out(
    database: DatabaseUrls, postgres: SharedPostgres
) -> None:
    async with control_plane(database, lease_ms=1_000) as control:
        _, box = await control.box()
        await box.connect()

        async def beat(sequence: int) -> bool:
            await box.say(ConnectRequest(heartbeat=Heartbeat(sequence=sequence)))
            try:
                return (await box.next("heartbeat_ack", timeout_s=0.2)).heartbeat_ack.sequence == sequence
            except TimeoutError:
                return False

        assert await beat(1)
        await postgres.stop()
        try:

            async def unheard() -> bool:
                return not await beat(2)

            await eventually(unheard)
        finally:
            await postgres.start()


async def test_trainings_of_a_workspace_that_was_used_up_while_no_scheduler_ran_are_stopped(
    database: DatabaseUrls,
) -> None:
    await create_log(database)
    settings = scheduler_settings(database.scheduler)
    async with grpc.aio.insecure_channel(settings.listen) as channel:
        control = Control(channel, "")
        async with running(scheduler.serve, settings):
            created = await control.create_workspace("test")
            control.token = created.secret
            runner = await control.create_runner()
            await control.dataset()
            box = Box(channel, runner.secret_key)
            period = period_of((await box.connect()).platform_at_ms)
            await control.submit()
        used_up = QuotaExhausted(period=period, quota_milliminutes=500, used_milliminutes=510)
        stream = StreamAppend("workspace", created.workspace_id, None, [used_up])
        async with appender_on(database.quota) as appender:
            await appender.append(Append(created.workspace_id, [stream], actor="service:quota"))
        async with running(scheduler.serve, settings):
            again = Box(channel, runner.secret_key)
            await again.connect()
            while (wanted := await again.assignment()).stop_reason == EndReason.END_REASON_UNSPECIFIED:
                continue
            assert wanted.stop_reason == EndReason.END_REASON_QUOTA_EXHAUSTED
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await control.submit(runner="", queue=True)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "0.51 of its 0.50 compute minutes" in (refused.value.details() or "")


@pytest.mark.slow
async def test_a_session_that_is_committed_after_its_stream_broke_is_ended(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        runner_id, box = await control.box()

        async def appending() -> bool:
            waiting: int = await pool.fetchval(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            )
            return waiting > 0

        async with pool.acquire() as connection, connection.transaction():
            await take_append_lock(connection)
            await box.say(ConnectRequest(hello=hello()))
            await eventually(appending, 10, "the commit of the session")
            box.drop()
            # Asked on the same connection, so the end of the stream is known before the answer comes.
            assert not (await control.runner()).connected

        async def told() -> bool:
            return any(record.type == "RunnerDisconnected" for record in await history(pool, runner_id))

        await eventually(told, 30, "the end of the session that nobody holds")
        records = await history(pool, runner_id)
        assert [record.type for record in records] == [
            "RunnerRegistered",
            "RunnerConnected",
            "RunnerStatusChanged",
            "RunnerDisconnected",
            "RunnerStatusChanged",
        ]
        gone = RunnerDisconnected.FromString(records[3].payload.value)
        assert gone.reason == "the session was lost while it was opened"
        assert gone.epoch == records[1].stream_version
