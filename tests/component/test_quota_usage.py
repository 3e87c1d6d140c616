"""Usage and charges over gRPC, on a real log."""

from collections.abc import Sequence

import asyncpg
import grpc
import pytest

from protos.events.v1 import job_pb2 as job
from protos.events.v1 import workspace_pb2 as workspace
from protos.quota.v1 import quota_pb2 as pb
from protos.training.v1.training_pb2 import EndReason
from services.eventlog.projection import forget_checkpoint
from services.quota.charges import TABLES
from tests.support.platform import DatabaseUrls, SharedNats
from tests.support.quota import DAY_MS, NOON_MS, assigned, interval
from tests.support.quota_service import WORKSPACE, QuotaUnderTest, quota_service

MINUTE_MS = 60_000
MONTH_END_MS = 1_796_083_200_000  # 2026-12-01


async def run_jobs(quota: QuotaUnderTest) -> int:
    """A finished job over the month's end, one retried, one cut off and corrected, one running, one of another's."""
    start_ms = MONTH_END_MS - MINUTE_MS
    await quota.job(
        "jb_1",
        job.JobSubmitted(name="over the month's end"),
        assigned("at_1", 2_500_000),
        job.JobStarted(attempt_id="at_1", started_at_ms=start_ms),
        job.JobFinished(attempt_id="at_1", interval=interval(start_ms, MONTH_END_MS + 3 * MINUTE_MS)),
    )
    await quota.job(
        "jb_2",
        job.JobSubmitted(name="retried"),
        assigned("at_2a"),
        job.JobFailed(attempt_id="at_2a", interval=interval(0, NOON_MS), reason=EndReason.END_REASON_INFRASTRUCTURE),
        assigned("at_2b"),
        job.JobStarted(attempt_id="at_2b", started_at_ms=NOON_MS),
        job.JobKilled(
            attempt_id="at_2b",
            interval=interval(NOON_MS, NOON_MS + MINUTE_MS),
            reason=EndReason.END_REASON_STOPPED_BY_PERSON,
        ),
    )
    lost_at = await quota.job(
        "jb_3",
        job.JobSubmitted(name="cut off"),
        assigned("at_3", simulated=True),
        job.JobStarted(attempt_id="at_3", started_at_ms=NOON_MS),
        job.JobUnreachable(attempt_id="at_3", deadline_at_ms=NOON_MS + 20 * MINUTE_MS),
        job.JobKilled(
            attempt_id="at_3",
            interval=interval(NOON_MS, NOON_MS + 20 * MINUTE_MS, presumed=True),
            reason=EndReason.END_REASON_CONNECTION_LOST,
        ),
    )
    truth = interval(NOON_MS, NOON_MS + 2 * MINUTE_MS)
    await quota.job(
        "jb_3",
        job.JobOutcomeCorrected(
            attempt_id="at_3", corrects_position=lost_at, interval=truth, finished=job.JobFinished()
        ),
    )
    await quota.job("jb_other", assigned("at_other"), workspace_id="ws_2")
    await quota.job("jb_other", job.JobStarted(attempt_id="at_other", started_at_ms=NOON_MS), workspace_id="ws_2")
    await quota.job("jb_queued", job.JobSubmitted(name="never assigned"))
    return await quota.job(
        "jb_4",
        job.JobSubmitted(name="running"),
        assigned("at_4", 1_500_000),
        job.JobStarted(attempt_id="at_4", started_at_ms=NOON_MS),
    )


async def test_usage_is_settled_and_running_minutes_of_the_month(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        position = await run_jobs(quota)
        quota.clock.step(10 * MINUTE_MS)
        november = await quota.usage(position)
        assert november == pb.GetUsageResponse(
            period="2026-11",
            used_milliminutes=2500 + 1000 + 2000 + 15_000,
            running_milliminutes=15_000,
            running_jobs=1,
            position=november.position,
            as_of_ms=NOON_MS + 10 * MINUTE_MS,
            burn_milliminutes_per_hour=90_000,
        )
        assert november.position >= position
        december = await quota.usage(period="2026-12")
        assert (december.used_milliminutes, december.running_jobs) == (7500, 0)


async def test_a_charge_names_everything_that_it_is_made_of(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        position = await run_jobs(quota)
        quota.clock.step(MINUTE_MS)
        listed = await quota.charges(pb.ListChargesRequest(min_position=position))
        assert [(charge.job_id, charge.milliminutes, charge.running) for charge in listed.charges] == [
            ("jb_4", 1500, True),
            ("jb_3", 2000, False),
            ("jb_2", 1000, False),
            ("jb_1", 10_000, False),
        ]
        retried = listed.charges[2]
        assert retried.job_name == "retried"
        assert [(one.charged_ms_micros, one.reason) for one in retried.attempts] == [
            (0, EndReason.END_REASON_INFRASTRUCTURE),
            (60_000_000_000, EndReason.END_REASON_STOPPED_BY_PERSON),
        ]
        (corrected,) = listed.charges[1].attempts
        assert corrected.interval == interval(NOON_MS, NOON_MS + 2 * MINUTE_MS)
        assert (corrected.simulated, corrected.runner_name, corrected.rate_micros) == (True, "box", 1_000_000)
        (told,) = await quota.events("JobOutcomeCorrected")
        assert corrected.ended_position == told.position
        (running,) = listed.charges[0].attempts
        assert running.interval == job.ChargedInterval(started_at_ms=NOON_MS, charged_until_ms=NOON_MS + MINUTE_MS)


async def test_pages_of_charges_hold_every_job_once_newest_first(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        position = await run_jobs(quota)
        for period, expected in (("", ["jb_4", "jb_3", "jb_2", "jb_1"]), ("2026-12", ["jb_1"]), ("2027-01", [])):
            request = pb.ListChargesRequest(min_position=position, period=period, page_size=1)
            found: list[str] = []
            while True:
                page = await quota.charges(request)
                found += [charge.job_id for charge in page.charges]
                request.page_token = page.next_page_token
                if not page.next_page_token:
                    break
            assert found == expected
        november = await quota.charges(pb.ListChargesRequest(period="2026-11"))
        assert [charge.job_id for charge in november.charges] == ["jb_4", "jb_3", "jb_2", "jb_1"]
        only = await quota.charges(pb.ListChargesRequest(job_id="jb_2"))
        assert [charge.job_id for charge in only.charges] == ["jb_2"]
        assert not (await quota.charges(pb.ListChargesRequest(job_id="jb_queued"))).charges


async def test_an_adjustment_counts_in_its_month(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await run_jobs(quota)
        refund = workspace.MinutesAdjusted(period="2026-12", milliminutes=-500, reason="a stuck box", job_id="jb_1")
        position = await quota.append("workspace", WORKSPACE, refund)
        assert (await quota.usage(position, "2026-12")).used_milliminutes == 7000
        assert (await quota.verify(pb.VerifyUsageRequest())).equal


async def test_a_replay_of_the_log_gives_the_same_minutes(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        position = await run_jobs(quota)
        quota.clock.step(MINUTE_MS)
        whole = await quota.verify(pb.VerifyUsageRequest(min_position=position))
        assert whole == pb.VerifyUsageResponse(
            equal=True, jobs=4, events_replayed=15, position=whole.position, replayed_milliminutes=13_000
        )
        one = await quota.verify(pb.VerifyUsageRequest(job_id="jb_1"))
        assert (one.equal, one.jobs, one.replayed_milliminutes) == (True, 1, 10_000)


async def test_a_read_model_that_differs_from_the_log_is_named(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await quota.usage(await run_jobs(quota))
        pool = quota.kernel.pool
        await pool.execute("update quota.job_usage set ms_micros = ms_micros + 7 where job_id = 'jb_2'")
        await pool.execute("delete from quota.attempts where job_id = 'jb_4'")
        await pool.execute("update quota.usage set charged_ms_micros = 1e30 where period = '2026-12'")
        quota.clock.step(1)
        found = await quota.verify(pb.VerifyUsageRequest())
        assert not found.equal
        assert list(found.differences) == [
            pb.ChargeDifference(job_id="jb_2", replayed_ms_micros=60_000_000_000, recorded_ms_micros=60_000_000_007),
            pb.ChargeDifference(job_id="jb_4", replayed_ms_micros=1_500_000),
            pb.ChargeDifference(period="2026-12", replayed_ms_micros=450_000_000_000, recorded_ms_micros=(1 << 63) - 1),
        ]


async def dump(database: DatabaseUrls) -> dict[str, Sequence[asyncpg.Record]]:
    connection = await asyncpg.connect(database.quota)
    try:
        return {table: await connection.fetch(f"select * from quota.{table} t order by t::text") for table in TABLES}
    finally:
        await connection.close()


async def test_a_rebuilt_read_model_is_equal_to_the_old_one(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await run_jobs(quota)
        back = interval(NOON_MS + DAY_MS, NOON_MS + DAY_MS)
        # Takes all of December's charge back; a rebuild never sees it.
        correction = job.JobOutcomeCorrected(attempt_id="at_1", interval=back, killed=job.JobKilled())
        await quota.usage(await quota.job("jb_1", correction))
        await quota.append("workspace", WORKSPACE, workspace.MinutesAdjusted(period="2026-11", milliminutes=5))
        await quota.set_quota(10)
        announcements = await quota.said(75, 90, 100, "exhausted")
        await quota.usage(announcements[-1].position)
    old = await dump(database)
    assert all(old[table] for table in TABLES)
    connection = await asyncpg.connect(database.quota)
    await forget_checkpoint(connection, "quota", "charges")
    await connection.close()
    async with quota_service(database, own_nats.url) as quota:
        head = (await quota.events())[-1].position
        await quota.usage(head)
        assert await dump(database) == old


async def test_a_wrong_field_is_refused_by_name(database: DatabaseUrls) -> None:
    async with quota_service(database) as quota:
        for method, request, field in (
            ("GetUsage", pb.GetUsageRequest(period="November"), "period"),
            ("GetUsage", pb.GetUsageRequest(min_position=-1), "min_position"),
            ("ListCharges", pb.ListChargesRequest(page_size=1001), "page_size"),
            ("ListCharges", pb.ListChargesRequest(page_token="next"), "page_token"),
            ("SetQuota", pb.SetQuotaRequest(quota_milliminutes=-1), "quota_milliminutes"),
            ("SetQuota", pb.SetQuotaRequest(request_id="x" * 101), "request_id"),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=f"{field} is ") as refused:
                await getattr(quota.stub, method)(request, metadata=quota.metadata(), timeout=10)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_nobody_sees_another_workspace_or_what_his_role_forbids(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        position = await run_jobs(quota)
        stranger = quota.metadata(await quota.admit("ws_2"))
        viewer = quota.metadata(await quota.admit(WORKSPACE, workspace.ROLE_VIEWER))

        async def code(call: grpc.aio.Call) -> grpc.StatusCode:
            return await call.code()

        charges = quota.stub.ListCharges(pb.ListChargesRequest(min_position=position, job_id="jb_1"), metadata=stranger)
        assert await code(charges) == grpc.StatusCode.NOT_FOUND
        assert await code(quota.stub.SetQuota(pb.SetQuotaRequest(), metadata=viewer)) == (
            grpc.StatusCode.PERMISSION_DENIED
        )
        operator = quota.stub.GetUsage(pb.GetUsageRequest(), metadata=quota.metadata("operator"))
        assert await code(operator) == grpc.StatusCode.FAILED_PRECONDITION
        usage = await quota.stub.GetUsage(pb.GetUsageRequest(), metadata=stranger)
        assert (usage.running_jobs, usage.used_milliminutes) == (1, 0)
