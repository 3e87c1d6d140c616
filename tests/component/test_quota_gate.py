"""The door that a used-up quota closes, and what opens it again: real scheduler and quota service, one log."""

from collections.abc import Awaitable, Callable

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from protos.common.v1.errors_pb2 import QuotaUsedUp
from protos.events.v1 import job_pb2, workspace_pb2
from protos.scheduler.v1.job_pb2 import JobState, SubmitJobRequest
from protos.scheduler.v1.session_pb2 import Assignment, BoxMoment, Ended, Outcome, Started
from protos.training.v1.training_pb2 import EndReason
from services.eventlog.append import Append, StreamAppend
from tests.support.box import Box
from tests.support.eventually import eventually
from tests.support.log import appender_on
from tests.support.metered import Metered, metered
from tests.support.platform import DatabaseUrls, SharedNats

DETAILS = "grpc-status-details-bin"
SECOND_MS = 1000
QUOTA = 10_000
PAST = 10_500

Opening = Callable[[Metered, DatabaseUrls, int], Awaitable[None]]


async def refused(platform: Metered, *, queue: bool) -> tuple[str, QuotaUsedUp]:
    """The sentence and the typed detail of a submission that is refused."""
    request = SubmitJobRequest(dataset_id="digits", architecture_id="resnet-tiny", queue=queue)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.control.jobs.SubmitJob(request, metadata=platform.control.auth)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    packed = dict(caught.value.trailing_metadata() or ())[DETAILS]
    assert isinstance(packed, bytes)
    detail = QuotaUsedUp()
    assert Status.FromString(packed).details[0].Unpack(detail)
    return caught.value.details() or "", detail


async def past_job(platform: Metered, database: DatabaseUrls, milliminutes: int, now_ms: int) -> None:
    """A job of a second, a moment ago, on a box that is as expensive as it takes."""
    assigned = job_pb2.JobAssigned(attempt_id="at_past", rate_micros=milliminutes * 60_000)
    interval = job_pb2.ChargedInterval(started_at_ms=now_ms - SECOND_MS, charged_until_ms=now_ms, ended_at_ms=now_ms)
    finished = job_pb2.JobFinished(attempt_id="at_past", interval=interval)
    await tell_job(platform, database, assigned, finished)


async def tell_job(platform: Metered, database: DatabaseUrls, *events: Message) -> None:
    stream = StreamAppend("job", "jb_past", None, events)
    async with appender_on(database.scheduler) as log:
        await log.append(Append(platform.control.workspace_id, [stream], actor="service:test"))


async def wanted(box: Box, matches: Callable[[Assignment], bool]) -> Assignment:
    """What the box is told to do, once it matches; the same is told more than once."""
    while not matches(assignment := await box.assignment()):
        continue
    return assignment


async def end(box: Box, assignment: Assignment, now_ms: int) -> None:
    at = BoxMoment(anchor_at_ms=now_ms)
    reason = EndReason.END_REASON_QUOTA_EXHAUSTED
    ended = Ended(outcome=Outcome.OUTCOME_KILLED, reason=reason, started_at=at, stop_began_at=at, ended_at=at)
    await box.report(assignment, 2, ended=ended)


async def open_by_raising(platform: Metered, database: DatabaseUrls, now_ms: int) -> None:
    await platform.set_quota(2 * QUOTA)


async def open_by_refund(platform: Metered, database: DatabaseUrls, now_ms: int) -> None:
    exhausted = workspace_pb2.QuotaExhausted.FromString((await platform.events("QuotaExhausted"))[-1].payload.value)
    await platform.adjust(exhausted.period, -QUOTA)


async def open_by_correction(platform: Metered, database: DatabaseUrls, now_ms: int) -> None:
    """The job of the past had ended at once."""
    start_ms = now_ms - SECOND_MS
    truth = job_pb2.ChargedInterval(started_at_ms=start_ms, charged_until_ms=start_ms, ended_at_ms=start_ms)
    corrected = job_pb2.JobOutcomeCorrected(attempt_id="at_past", interval=truth, finished=job_pb2.JobFinished())
    await tell_job(platform, database, corrected)


@pytest.mark.parametrize("opened", [open_by_raising, open_by_refund, open_by_correction])
async def test_a_used_up_quota_stops_refuses_and_holds_back_until_minutes_are_there_again(
    database: DatabaseUrls,
    own_nats: SharedNats,
    opened: Opening,
) -> None:
    async with metered(database, own_nats.url) as platform:
        control = platform.control
        await control.dataset()
        await platform.set_quota(QUOTA)
        _, box = await control.box()
        now_ms = (await box.connect()).platform_at_ms
        running = await control.submit()
        assignment = await box.assignment()
        await box.report(assignment, 1, started=Started(at=BoxMoment(anchor_at_ms=now_ms)))
        waiting = await control.submit("", queue=True)
        assert waiting.state == JobState.JOB_STATE_QUEUED

        await past_job(platform, database, PAST, now_ms)
        stop = await wanted(box, lambda one: bool(one.stop_reason))
        assert (stop.job_id, stop.stop_reason) == (running.job_id, EndReason.END_REASON_QUOTA_EXHAUSTED)
        assert "the 10.00 compute minutes of" in stop.stop_message
        for queue in (False, True):
            sentence, detail = await refused(platform, queue=queue)
            assert detail.quota_milliminutes == QUOTA
            assert detail.used_milliminutes >= PAST
            assert f"has used {detail.used_milliminutes / 1000:.2f} of its 10.00 compute minutes of" in sentence

        await end(box, stop, now_ms)
        assert (await control.job(running.job_id)).reason == EndReason.END_REASON_QUOTA_EXHAUSTED
        if opened is open_by_raising:
            with pytest.raises(AssertionError, match="did not come"):
                await eventually(lambda: was_assigned(platform, waiting.job_id), timeout_s=1.5)
        held_back = await control.job(waiting.job_id)
        assert held_back.waiting_for.startswith("compute minutes: 10.")
        assert " of 10.00 of " in held_back.waiting_for

        await opened(platform, database, now_ms)
        await wanted(box, lambda one: one.job_id == waiting.job_id)
        expected = "QuotaSet" if opened is open_by_raising else "QuotaReplenished"
        told = await platform.events("QuotaSet", "QuotaExhausted", "QuotaReplenished")
        assert [one.type for one in told] == ["QuotaSet", "QuotaExhausted", expected]


async def was_assigned(platform: Metered, job_id: str) -> bool:
    return any(record.stream_id == job_id for record in await platform.events("JobAssigned"))


async def test_what_was_said_of_the_quota_holds_for_replicas_that_start_anew(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with metered(database, own_nats.url) as platform:
        await platform.control.dataset()
        await platform.set_quota(0)
        await eventually(lambda: platform.events("QuotaExhausted"), what="a quota of nothing is used up")
        workspace = (platform.control.token, platform.control.workspace_id)
    async with metered(database, own_nats.url) as platform:
        platform.control.token, platform.control.workspace_id = workspace
        assert "0.00 of its 0.00" in (await refused(platform, queue=True))[0]
        await platform.set_quota(None)
        request = SubmitJobRequest(dataset_id="digits", architecture_id="resnet-tiny", queue=True)

        async def accepted() -> bool:
            answer = await platform.control.jobs.SubmitJob(request, metadata=platform.control.auth)
            return answer.job.state == JobState.JOB_STATE_QUEUED

        assert await eventually(accepted, what="unlimited minutes")
        assert len(await platform.events("QuotaExhausted")) == 1
