"""Breakdowns, watches, invoices and adjustments over gRPC, on a real log."""

import asyncio
from typing import Any

import grpc
import pytest

from protos.common.v1.moment_pb2 import Moment
from protos.events.v1 import job_pb2 as job
from protos.events.v1 import workspace_pb2 as workspace
from protos.quota.v1 import quota_pb2 as pb
from services.quota.domain.minutes import period_of
from tests.support.eventually import eventually
from tests.support.platform import DatabaseUrls, SharedNats
from tests.support.quota import DAY_MS, NOON_MS, assigned, interval
from tests.support.quota_service import WORKSPACE, QuotaUnderTest, quota_service

MINUTE_MS = 60_000
MONTH_END_MS = 1_796_083_200_000  # 2026-12-01


async def one_job(quota: QuotaUnderTest, job_id: str = "jb_1", rate_micros: int = 1_500_000) -> int:
    """It ran for two minutes."""
    at = f"at_of_{job_id}"
    return await quota.job(
        job_id,
        job.JobSubmitted(name="digits"),
        assigned(at, rate_micros),
        job.JobStarted(attempt_id=at, started_at_ms=NOON_MS),
        job.JobFinished(attempt_id=at, interval=interval(NOON_MS, NOON_MS + 2 * MINUTE_MS)),
    )


async def refused(call: "grpc.aio.UnaryUnaryCall[Any, Any]") -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


async def adjust(quota: QuotaUnderTest, token: str = "", **fields: Any) -> pb.AdjustMinutesResponse:
    request = pb.AdjustMinutesRequest(**{"milliminutes": -500, "reason": "a stuck box", **fields})
    return await quota.stub.AdjustMinutes(request, metadata=quota.metadata(token), timeout=30)


async def test_an_adjustment_is_an_event_that_counts_at_once_and_once(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await one_job(quota)
        first = await adjust(quota, request_id="r1", job_id="jb_1", reason=" a stuck box ")
        quota.clock.step(60 * DAY_MS)  # another month: the repeat means the first one's all the same
        assert await adjust(quota, request_id="r1", job_id="jb_1", reason=" a stuck box ") == first
        (told,) = await quota.events("MinutesAdjusted")
        assert told.position == first.position
        assert told.stream_id == WORKSPACE
        assert told.actor.startswith("token:")
        event = workspace.MinutesAdjusted.FromString(told.payload.value)
        assert event == workspace.MinutesAdjusted(
            period="2026-11", milliminutes=-500, reason="a stuck box", job_id="jb_1"
        )
        usage = await quota.usage(first.position, "2026-11")
        assert (usage.used_milliminutes, usage.adjusted_milliminutes) == (3000 - 500, -500)
        invoice = await quota.stub.ExplainCharge(pb.ExplainChargeRequest(job_id="jb_1"), metadata=quota.metadata())
        assert (invoice.milliminutes, invoice.job_name) == (2500, "digits")
        assert [(one.position, one.reason, one.actor) for one in invoice.adjustments] == [
            (first.position, "a stuck box", told.actor)
        ]
        assert (await quota.verify(pb.VerifyUsageRequest())).equal


async def test_an_adjustment_that_makes_no_sense_is_refused_by_name(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await quota.usage(await one_job(quota))
        stranger = await quota.admit("ws_2")
        for fields, code, words in (
            ({"milliminutes": 0}, grpc.StatusCode.INVALID_ARGUMENT, "milliminutes is '0'"),
            ({"milliminutes": 10**15 + 1}, grpc.StatusCode.INVALID_ARGUMENT, "milliminutes is"),
            ({"milliminutes": -(1 << 63)}, grpc.StatusCode.INVALID_ARGUMENT, "milliminutes is"),
            ({"reason": "  "}, grpc.StatusCode.INVALID_ARGUMENT, "reason is"),
            ({"reason": "x" * 501}, grpc.StatusCode.INVALID_ARGUMENT, "1 to 500 characters"),
            ({"reason": "one\ntwo"}, grpc.StatusCode.INVALID_ARGUMENT, "in one line"),
            ({"period": "2026-13"}, grpc.StatusCode.INVALID_ARGUMENT, "period is '2026-13'"),
            ({"period": "2026-12"}, grpc.StatusCode.INVALID_ARGUMENT, "has not begun"),
            ({"job_id": "jb_none"}, grpc.StatusCode.NOT_FOUND, "there is no job 'jb_none'"),
            ({"request_id": "x" * 101}, grpc.StatusCode.INVALID_ARGUMENT, "request_id is"),
        ):
            request = pb.AdjustMinutesRequest(**{"milliminutes": -500, "reason": "a stuck box", **fields})  # type: ignore[arg-type]
            found, said = await refused(quota.stub.AdjustMinutes(request, metadata=quota.metadata(), timeout=30))
            assert (found, words in said) == (code, True), said
        theirs = pb.AdjustMinutesRequest(milliminutes=1, reason="x", job_id="jb_1")
        found, _ = await refused(quota.stub.AdjustMinutes(theirs, metadata=quota.metadata(stranger), timeout=30))
        assert found == grpc.StatusCode.NOT_FOUND
        member = await quota.admit(WORKSPACE, workspace.ROLE_MEMBER)
        found, _ = await refused(quota.stub.AdjustMinutes(theirs, metadata=quota.metadata(member), timeout=30))
        assert found == grpc.StatusCode.PERMISSION_DENIED
        assert await quota.events("MinutesAdjusted") == []


async def test_breakdowns_and_invoices_are_of_ones_own_workspace(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        position = await one_job(quota)
        stranger = quota.metadata(await quota.admit("ws_2"))
        for grouping in pb.UsageGrouping.values():
            request = pb.GetUsageRequest(group_by=grouping, min_position=position)
            mine = await quota.stub.GetUsage(request, metadata=quota.metadata(), timeout=30)
            theirs = await quota.stub.GetUsage(request, metadata=stranger, timeout=30)
            assert [row.milliminutes for row in mine.rows] == ([3000] if grouping else [])
            assert not theirs.rows
        explain = pb.ExplainChargeRequest(job_id="jb_1")
        assert (await refused(quota.stub.ExplainCharge(explain, metadata=stranger)))[0] == grpc.StatusCode.NOT_FOUND
        wrong = pb.GetUsageRequest(group_by=99)  # type: ignore[arg-type]
        code, said = await refused(quota.stub.GetUsage(wrong, metadata=quota.metadata()))
        assert (code, "DAY, RUNNER" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_a_month_lists_a_job_only_as_long_as_it_is_charged_in_it(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        start_ms = MONTH_END_MS - MINUTE_MS
        await quota.job(
            "jb_1",
            job.JobSubmitted(name="digits"),
            assigned("at_1"),
            job.JobStarted(attempt_id="at_1", started_at_ms=start_ms),
        )
        presumed = interval(start_ms, MONTH_END_MS + MINUTE_MS, presumed=True)
        position = await quota.job("jb_1", job.JobKilled(attempt_id="at_1", interval=presumed))

        async def listed(position: int) -> dict[str, list[str]]:
            return {
                period: [
                    charge.job_id
                    for charge in (
                        await quota.charges(pb.ListChargesRequest(period=period, min_position=position))
                    ).charges
                ]
                for period in ("2026-11", "2026-12")
            }

        assert await listed(position) == {"2026-11": ["jb_1"], "2026-12": ["jb_1"]}
        truth = interval(start_ms, MONTH_END_MS - 1)
        position = await quota.job(
            "jb_1", job.JobOutcomeCorrected(attempt_id="at_1", interval=truth, finished=job.JobFinished())
        )
        assert await listed(position) == {"2026-11": ["jb_1"], "2026-12": []}
        invoice = await quota.stub.ExplainCharge(pb.ExplainChargeRequest(job_id="jb_1"), metadata=quota.metadata())
        (corrected,) = invoice.attempts[0].corrected
        assert (corrected.position, corrected.corrected_by_position) == (position - 1, position)
        assert [one.period for one in invoice.attempts[0].intervals if one.charged_ms_micros] == ["2026-11"]


async def test_the_past_is_answered_over_grpc_with_errors_in_words(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await one_job(quota)
        position = await one_job(quota, "jb_2")
        await quota.usage(position)
        then = pb.GetUsageRequest(as_of=Moment(position=position - 2), period=period_of(NOON_MS))
        assert (await quota.stub.GetUsage(then, metadata=quota.metadata())).used_milliminutes == 3000
        for request in (
            pb.GetUsageRequest(as_of=Moment(position=position + 99)),
            pb.GetUsageRequest(as_of=Moment(at_ms=1 << 50)),
            pb.GetUsageRequest(as_of=Moment()),
        ):
            code, said = await refused(quota.stub.GetUsage(request, metadata=quota.metadata()))
            assert (code, said.startswith("as_of is")) == (grpc.StatusCode.INVALID_ARGUMENT, True), said


async def test_the_quota_is_used_up_when_the_burn_says_so(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await quota.set_quota(90_000)
        started = job.JobStarted(attempt_id="at_1", started_at_ms=NOON_MS)
        position = await quota.job("jb_1", job.JobSubmitted(name="n"), assigned("at_1", 1_500_000), started)
        quota.clock.step(10 * MINUTE_MS)
        usage = await quota.usage(position)
        assert usage.burn_milliminutes_per_hour == 90_000
        assert usage.exhausted_at_ms == NOON_MS + 60 * MINUTE_MS
        silent = job.JobUnreachable(
            attempt_id="at_1", last_contact_at_ms=NOON_MS, deadline_at_ms=NOON_MS + 15 * MINUTE_MS
        )
        usage = await quota.usage(await quota.job("jb_1", silent))
        assert usage.exhausted_at_ms == 0, "it ends itself before"
        quota.clock.step(10 * MINUTE_MS)
        assert (await quota.usage()).burn_milliminutes_per_hour == 0


class Watch:
    """A stream of WatchUsage, read one answer at a time."""

    def __init__(self, quota: QuotaUnderTest, token: str = "", **fields: Any) -> None:
        request = pb.WatchUsageRequest(**fields)
        self._call = quota.stub.WatchUsage(request, metadata=quota.metadata(token), timeout=60)

    async def next(self) -> pb.GetUsageResponse:
        async with asyncio.timeout(10):
            answer = await self._call.read()
        assert isinstance(answer, pb.WatchUsageResponse), await self.code()
        return answer.usage

    async def code(self) -> grpc.StatusCode:
        """How it ended."""
        return await self._call.code()

    async def until(self, used_milliminutes: int) -> pb.GetUsageResponse:
        """The first answer with that much used; those before it have less."""
        for _ in range(100):
            usage = await self.next()
            assert usage.used_milliminutes <= used_milliminutes
            if usage.used_milliminutes == used_milliminutes:
                return usage
        raise AssertionError(f"{used_milliminutes} was not told")

    def cancel(self) -> None:
        self._call.cancel()


async def test_a_watch_answers_at_once_on_every_change_and_while_something_runs(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        watch = Watch(quota, interval_ms=200)
        assert (await watch.next()).used_milliminutes == 0
        await one_job(quota)
        assert (await watch.until(3000)).running_jobs == 0
        await quota.set_quota(1_000_000)
        assert (await watch.until(3000)).quota_milliminutes == 1_000_000
        started = job.JobStarted(attempt_id="at_9", started_at_ms=NOON_MS)
        await quota.job("jb_9", job.JobSubmitted(name="n"), assigned("at_9", 1_000_000), started)
        assert (await eventually_running(watch)).running_jobs == 1
        # No event, and no change but the time: it is told by the interval.
        quota.clock.step(MINUTE_MS)
        assert (await watch.until(4000)).burn_milliminutes_per_hour == 60_000
        watch.cancel()


async def eventually_running(watch: Watch) -> pb.GetUsageResponse:
    for _ in range(100):
        usage = await watch.next()
        if usage.running_jobs:
            return usage
    raise AssertionError("the running job was not told")


async def test_a_watch_ends_when_its_token_is_withdrawn(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        token = await quota.admit(WORKSPACE)
        watch = Watch(quota, token)
        await watch.next()
        await quota.append("workspace", WORKSPACE, workspace.TokenRevoked(token_id=f"tok_{token[3:9]}"))
        assert await watch.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_watch_that_looks_too_often_is_refused(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        watch = Watch(quota, interval_ms=199)
        assert await watch.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_two_watchers_of_one_workspace_and_one_of_another_are_told_their_own(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        mine = [Watch(quota), Watch(quota)]
        theirs = Watch(quota, await quota.admit("ws_2"))
        for watch in (*mine, theirs):
            await watch.next()
        await one_job(quota)
        for watch in mine:
            await watch.until(3000)

        async def told() -> bool:
            return (await quota.usage()).used_milliminutes == 3000

        await eventually(told, what="the charge")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await theirs.next()
        for watch in (*mine, theirs):
            watch.cancel()
