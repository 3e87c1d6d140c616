"""A scheduler that goes and comes back: sessions continue, and those that do not are told truthfully."""

import grpc

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.runner_pb2 import RunnerDisconnected, RunnerStatus
from services.eventlog.read import read_stream
from services.postgres import Pool
from services.scheduler import bootstrap as scheduler
from tests.support.box import Box, hello
from tests.support.control import Control
from tests.support.eventually import eventually
from tests.support.log import create_log, pool_on
from tests.support.platform import DatabaseUrls
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
