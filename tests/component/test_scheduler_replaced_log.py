"""A scheduler that starts on a restored log knows that what lies beside the log is of another time."""

import asyncpg
import grpc
import pytest

from protos.scheduler.v1 import job_pb2
from protos.scheduler.v1.job_pb2 import JobState
from protos.scheduler.v1.session_pb2 import BoxMoment, Started
from services.eventlog.log_id import renew
from services.scheduler import bootstrap as scheduler
from tests.support.box import Box, hello
from tests.support.control import Control
from tests.support.eventually import eventually
from tests.support.log import create_log, pool_on
from tests.support.platform import DatabaseUrls
from tests.support.servers import running, scheduler_settings


async def a_day_passes(database: DatabaseUrls, restored: bool) -> None:
    """The backup is of yesterday; `restored`: its log has a new id."""
    connection = await asyncpg.connect(database.admin)
    try:
        await connection.execute("update scheduler.replicas set expires_at = expires_at - interval '1 day'")
        await connection.execute("update scheduler.contacts set heard_at_ms = heard_at_ms - 86400000")
        if restored:
            await renew(connection)
    finally:
        await connection.close()


@pytest.mark.parametrize("restored", [True, False])
async def test_a_training_that_ran_when_the_backup_was_made_has_the_window_to_come_back(
    database: DatabaseUrls, restored: bool
) -> None:
    await create_log(database)
    settings = scheduler_settings(database.scheduler, lease_ms=1_000)
    async with pool_on(database.scheduler) as pool, grpc.aio.insecure_channel(settings.listen) as channel:
        control = Control(channel, "")
        async with running(scheduler.serve, settings):
            control.token = (await control.create_workspace("test")).secret
            await control.dataset()
            key = (await control.create_runner()).secret_key
            box = Box(channel, key)
            await box.connect()
            job_id = (await control.submit()).job_id
            assignment = await box.assignment()
            await box.report(assignment, 1, started=Started(at=BoxMoment(anchor_at_ms=1)))
        await a_day_passes(database, restored)
        started_at_ms: int = await pool.fetchval("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
        async with running(scheduler.serve, settings):

            async def cut_off() -> job_pb2.Job | None:
                job = await control.job(job_id)
                return job if job.deadline_at_ms else None

            job = await eventually(cut_off, 15, "the session's end in the log")
            assert job is not None
            # Under the same id the lease of yesterday counts: the box was heard last when it ended.
            assert (job.last_contact_at_ms >= started_at_ms) == restored
            again = Box(channel, key)
            await again.connect(hello(live_attempts=[assignment.attempt_id]))
            assert (await again.assignment()).attempt_id == assignment.attempt_id
            assert (await control.job(job_id)).state == JobState.JOB_STATE_RUNNING
            again.drop()
