"""What the quota service says between a decision of the scheduler and its append is heeded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import grpc
import pytest
from google.protobuf.message import Message

from protos.events.v1.workspace_pb2 import QuotaExhausted, QuotaSet
from protos.scheduler.v1.job_pb2 import JobState, SubmitJobRequest
from services.eventlog.appender import take_append_lock
from services.postgres import Connection
from tests.support.eventually import eventually
from tests.support.filled_log import append_raw
from tests.support.histories import record
from tests.support.metered import Metered, metered
from tests.support.platform import DatabaseUrls, SharedNats


class HeldLog:
    """Nobody appends but the test."""

    def __init__(self, database: DatabaseUrls, platform: Metered, admin: Connection) -> None:
        self._database, self._platform, self._admin = database, platform, admin

    async def say(self, event: Message) -> None:
        """Append to the workspace's stream, as the quota service would."""
        log, workspace_id = await self._platform.events(), self._platform.control.workspace_id
        version = max(one.stream_version for one in log if one.stream_id == workspace_id)
        at_ms = log[-1].recorded_at_us // 1000 + 1
        stream = ("workspace", workspace_id)
        told = record(log[-1].position + 1, event, stream, version + 1, at_ms, workspace_id, "service:quota")
        await append_raw(self._database, [told])

    async def somebody_waits(self) -> bool:
        """Somebody has decided, and waits for his turn to append."""
        waiting: int = await self._admin.fetchval(
            "select count(*) from pg_locks join pg_database d on d.oid = database "
            "where datname = current_database() and locktype = 'advisory' and not granted"
        )
        return waiting > 0


@asynccontextmanager
async def held_log(database: DatabaseUrls, platform: Metered) -> AsyncIterator[HeldLog]:
    holder, admin = await asyncpg.connect(database.scheduler), await asyncpg.connect(database.admin)
    try:
        async with holder.transaction():
            await take_append_lock(holder)
            yield HeldLog(database, platform, admin)
    finally:
        await holder.close()
        await admin.close()


def used_up(period: str) -> QuotaExhausted:
    return QuotaExhausted(period=period, position=1, used_milliminutes=10_000, quota_milliminutes=10_000)


async def test_a_job_that_was_decided_before_the_last_minute_was_used_is_refused_after_it(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with metered(database, own_nats.url) as platform:
        control = platform.control
        await control.dataset()
        box = await platform.connected_box("box")
        period = (await platform.usage()).period
        request = SubmitJobRequest(dataset_id="digits", architecture_id="resnet-tiny", runner_id="box")
        async with held_log(database, platform) as log:
            submitting = asyncio.ensure_future(control.jobs.SubmitJob(request, metadata=control.auth, timeout=30))
            await eventually(log.somebody_waits, what="the submission's append")
            await log.say(used_up(period))
        with pytest.raises(grpc.aio.AioRpcError, match=r"has used 10\.00 of its 10\.00 compute minutes"):
            await submitting
        assert not await platform.events("JobSubmitted", "JobAssigned")
        box.drop()


async def test_a_training_that_was_to_be_stopped_goes_on_where_the_quota_was_raised_first(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with metered(database, own_nats.url) as platform:
        control = platform.control
        await control.dataset()
        box = await platform.connected_box("box")
        job = await control.submit("box")
        period = (await platform.usage()).period
        async with held_log(database, platform) as log:
            await log.say(used_up(period))
            await eventually(log.somebody_waits, what="the stop's append")
            await log.say(QuotaSet(quota_milliminutes=20_000))
        with pytest.raises(AssertionError, match="did not come"):
            await eventually(lambda: platform.events("JobKillRequested"), timeout_s=1.5)
        assert (await control.job(job.job_id)).state == JobState.JOB_STATE_ASSIGNED
        # And it is stopped where nothing comes between.
        await platform.set_quota(0)
        assert await eventually(lambda: platform.events("JobKillRequested"), what="the stop")
        box.drop()
