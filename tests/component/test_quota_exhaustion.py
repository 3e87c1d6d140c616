"""Quotas: exhausted at the millisecond, said once, true as known at its position; with one replica and with two."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import grpc
import pytest

from protos.events.v1 import job_pb2 as job
from protos.events.v1.workspace_pb2 import QuotaExhausted
from protos.quota.v1 import quota_pb2 as pb
from tests.support.eventually import eventually
from tests.support.platform import DatabaseUrls, SharedNats, SharedPostgres
from tests.support.quota import NOON_MS, assigned, interval
from tests.support.quota_service import QuotaUnderTest, SteppedClock, quota_service

SECOND_MS = 1000
MINUTE_MS = 60_000
MONTH_END_MS = 1_796_083_200_000  # 2026-12-01


async def start_job(quota: QuotaUnderTest, number: int = 1, rate_micros: int = 1_000_000) -> int:
    """A job that runs from the clock's now on; returns when it is counted."""
    attempt_id = f"at_{number}"
    started = job.JobStarted(attempt_id=attempt_id, started_at_ms=quota.clock.now_ms())
    position = await quota.job(f"jb_{number}", assigned(attempt_id, rate_micros), started)
    await quota.usage(position)
    return position


@asynccontextmanager
async def held_back(database: DatabaseUrls) -> AsyncIterator[None]:
    """The read model can be read and not be written."""
    connection = await asyncpg.connect(database.quota)
    try:
        async with connection.transaction():
            await connection.execute("lock table quota.attempts in exclusive mode")
            yield
    finally:
        await connection.close()


async def test_a_quota_is_exhausted_when_the_running_jobs_reach_it(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await quota.set_quota(5000)
        await start_job(quota, 1, 1_000_000)
        started = await start_job(quota, 2, 4_000_000)
        quota.clock.step(45 * SECOND_MS)
        await quota.said(75)
        quota.clock.step(9 * SECOND_MS)
        await quota.said(75, 90)
        quota.clock.step(6 * SECOND_MS - 1)
        assert not (await quota.usage()).exhausted
        quota.clock.step(1)
        said = await quota.said(75, 90, 100, "exhausted")
        exhausted = QuotaExhausted.FromString(said[-1].payload.value)
        assert (exhausted.period, exhausted.used_milliminutes, exhausted.quota_milliminutes) == ("2026-11", 5000, 5000)
        assert started <= exhausted.position < said[-1].position
        assert (await quota.usage()).exhausted


async def test_a_training_that_ended_in_time_is_not_counted_on(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await quota.set_quota(1000)
        await start_job(quota)
        ended = job.JobFinished(attempt_id="at_1", interval=interval(NOON_MS, NOON_MS + 6 * SECOND_MS))
        async with held_back(database):
            # The timer is due while the end lies in the log, and the read model does not know it yet.
            await quota.job("jb_1", ended)
            quota.clock.step(MINUTE_MS)
            with pytest.raises(AssertionError):
                await eventually(lambda: quota.events("QuotaThresholdReached", "QuotaExhausted"), timeout_s=1)
        await quota.set_quota(100)
        said = await quota.said(75, 90, 100, "exhausted")
        assert QuotaExhausted.FromString(said[-1].payload.value).used_milliminutes == 100


async def test_a_raised_quota_opens_the_door_until_it_is_used_up_as_well(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await start_job(quota)
        quota.clock.step(2 * MINUTE_MS)
        await quota.set_quota(1000)
        await quota.said(75, 90, 100, "exhausted")
        position = await quota.set_quota(3000)
        assert not (await quota.usage(position)).exhausted
        quota.clock.step(MINUTE_MS)
        await quota.said(75, 90, 100, "exhausted", "exhausted")
        unlimited = await quota.usage(await quota.set_quota(None))
        assert not unlimited.exhausted
        assert not unlimited.HasField("quota_milliminutes")


async def test_a_new_month_begins_anew(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url, SteppedClock(MONTH_END_MS - MINUTE_MS)) as quota:
        await quota.set_quota(500)
        await start_job(quota)
        quota.clock.step(MINUTE_MS - 1)
        november = await quota.said(75, 90, 100, "exhausted")
        quota.clock.step(1)
        assert (await quota.usage()).used_milliminutes == 0
        quota.clock.step(30 * SECOND_MS)
        both = await quota.said(75, 90, 100, "exhausted", 75, 90, 100, "exhausted")
        assert both[: len(november)] == november
        assert QuotaExhausted.FromString(both[-1].payload.value).period == "2026-12"


async def test_a_repeated_request_sets_the_quota_once(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        first = await quota.set_quota(1000, "r-1")
        await quota.set_quota(2000, "r-2")
        assert await quota.set_quota(1000, "r-1") == first
        assert len(await quota.events("QuotaSet")) == 2
        assert (await quota.usage(first + 1)).quota_milliminutes == 2000
        with pytest.raises(grpc.aio.AioRpcError, match="used for another request"):
            await quota.set_quota(3000, "r-1")


async def test_of_two_replicas_one_says_it_and_the_other_takes_over(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url, replicas=2) as quota:
        await quota.set_quota(1000)
        await start_job(quota)
        quota.clock.step(50 * SECOND_MS)
        await quota.said(75)
        admin = await asyncpg.connect(database.admin)
        leaders = "from pg_stat_activity where datname = current_database() and application_name like 'quota.%'"
        await admin.execute(f"select pg_terminate_backend(pid) {leaders}")
        await admin.close()
        quota.clock.step(10 * SECOND_MS)
        await quota.said(75, 90, 100, "exhausted")
        assert (await quota.verify(pb.VerifyUsageRequest())).equal


async def test_it_survives_the_death_of_postgresql_and_nats(
    database: DatabaseUrls, own_nats: SharedNats, postgres: SharedPostgres
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await quota.set_quota(1000)
        await start_job(quota)
        await own_nats.stop()
        postgres.kill()
        position = await eventually(
            lambda: quota.job("jb_2", assigned("at_2", 2_000_000)), 30, what="an append after the restart"
        )
        quota.clock.step(30 * SECOND_MS)
        await quota.job("jb_2", job.JobStarted(attempt_id="at_2", started_at_ms=NOON_MS + 30 * SECOND_MS))
        quota.clock.step(10 * SECOND_MS)
        # Half a minute at 1, then ten seconds at 1 + 2.
        usage = await eventually(lambda: quota.usage(position + 1), 30, what="an answer after the restart")
        assert usage.used_milliminutes == 1000
        await quota.said(75, 90, 100, "exhausted")
        await own_nats.start()
        postgres.kill()
        ended = job.JobFinished(attempt_id="at_1", interval=interval(NOON_MS, NOON_MS + 40 * SECOND_MS))
        position = await eventually(lambda: quota.job("jb_1", ended), 30, what="an append after the second restart")
        verified = await eventually(lambda: quota.verify(pb.VerifyUsageRequest(min_position=position)), 30)
        assert (verified.equal, verified.replayed_milliminutes) == (True, 667)
