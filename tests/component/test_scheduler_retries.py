"""A job that its box lets down, over real gRPC: it waits first in the queue and gets another attempt."""

from collections.abc import AsyncIterator

import grpc
import pytest

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import JobFailed
from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1 import job_pb2, runner_pb2
from protos.scheduler.v1.session_pb2 import (
    Assignment,
    BoxMoment,
    Checkpointed,
    Ended,
    Evaluated,
    Outcome,
    Progressed,
    Stalled,
    Started,
)
from protos.training.v1.training_pb2 import Checkpoint, EndReason, Limits
from services.eventlog.catalogue import payload_of
from services.eventlog.read import read_stream
from services.postgres import Pool
from services.scheduler.rebuild import rebuild
from tests.support.box import Box, hello
from tests.support.control import Control, control_plane
from tests.support.eventually import eventually
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls

State = job_pb2.JobState
INFRASTRUCTURE = EndReason.END_REASON_INFRASTRUCTURE


def moment(at_ms: int = 0) -> BoxMoment:
    return BoxMoment(anchor_at_ms=at_ms)


async def let_down(box: Box, assignment: Assignment, sequence: int = 1) -> None:
    ended = Ended(
        outcome=Outcome.OUTCOME_FAILED,
        reason=INFRASTRUCTURE,
        message="the keeper died",
        started_at=moment(),
        ended_at=moment(),
        steps=25,
    )
    assert (await box.report(assignment, sequence, ended=ended)).rejected == ""


async def after(box: Box, attempt_id: str) -> Assignment:
    """The attempt that the box is given after another one."""
    while (assignment := await box.assignment()).attempt_id == attempt_id:
        continue
    return assignment


async def history(pool: Pool, job_id: str) -> list[EventRecord]:
    return await read_stream(pool, "job", job_id)


async def test_it_goes_on_from_its_checkpoint_in_a_second_attempt_and_finishes_once(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        await control.dataset()
        _, box = await control.box()
        welcome = await box.connect()
        job = await control.submit(limits=Limits(epochs=3, retries=2))
        first = await box.assignment()
        assert not first.spec.HasField("resume_from")
        at = moment(welcome.platform_at_ms + 10)
        await box.report(first, 1, started=Started(at=at, weights="random"))
        saved = Checkpoint(name="step-00000020.safetensors", step=20, sha256="ab" * 32)
        await box.report(first, 2, checkpointed=Checkpointed(checkpoint=saved))
        await let_down(box, first, 3)
        second = await after(box, first.attempt_id)
        assert second.job_id == job.job_id
        resume_from = second.spec.resume_from
        assert (resume_from.attempt_id, resume_from.checkpoint) == (first.attempt_id, saved.name)
        assert (resume_from.step, resume_from.sha256) == (20, saved.sha256)
        now = await control.job(job.job_id)
        assert (now.state, now.attempt, now.attempt_id) == (State.JOB_STATE_ASSIGNED, 2, second.attempt_id)
        (earlier,) = now.earlier_attempts
        assert (earlier.attempt_id, earlier.reason, earlier.steps) == (first.attempt_id, INFRASTRUCTURE, 25)
        assert earlier.message == "the keeper died"

        await let_down(box, first, 3)  # a repeat that came late changes nothing
        await box.report(second, 1, started=Started(at=at, weights=saved.name))
        ended = Ended(outcome=Outcome.OUTCOME_FINISHED, started_at=at, ended_at=at, steps=60)
        await box.report(second, 2, ended=ended)
        listed = await control.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=control.auth)
        assert [(one.state, one.attempt) for one in listed.jobs] == [(State.JOB_STATE_FINISHED, 2)]

        told = await history(pool, job.job_id)
        types = [record.type for record in told if record.type != "CheckpointSaved"]
        assert types == [
            "JobSubmitted",
            *("JobAssigned", "JobStarted", "JobFailed"),
            *("JobAssigned", "JobStarted", "JobFinished"),
        ]
        assert len({record.correlation_id for record in told}) == 1, "all of it follows from one submission"
        assert told[0].correlation_id
        failed = next(record for record in told if record.type == "JobFailed")
        event = payload_of(failed)
        assert isinstance(event, JobFailed)
        assert event.will_retry
        freed = await pool.fetchval("select type from eventlog.events where position = $1", failed.position + 1)
        assert freed == "RunnerStatusChanged", "its runner is freed in the same append"
        await the_rebuilt_rows_are_equal(pool)


async def the_rebuilt_rows_are_equal(pool: Pool) -> None:
    query = "select * from scheduler.jobs order by job_id"
    before = await pool.fetch(query)
    async with pool.acquire() as connection:
        await rebuild(connection, pool)
    assert await pool.fetch(query) == before


async def test_it_waits_for_its_own_runner_before_all_others_that_wait(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        _, box = await control.box()
        await box.connect()
        waiting = await control.submit(runner="", queue=True, limits=Limits(retries=1))
        first = await box.assignment()
        behind = await control.submit(runner="", queue=True)
        suspend = runner_pb2.SuspendRunnerRequest(runner_id="box", reason="a look at its fan")
        await control.runners.SuspendRunner(suspend, metadata=control.auth)
        await let_down(box, first)
        _, other = await control.box("other")
        await other.connect(hello(installation_id="i-2"))
        assert (await other.assignment()).job_id == behind.job_id, "its checkpoint is not there"
        now = await control.job(waiting.job_id)
        assert (now.state, now.queue_position) == (State.JOB_STATE_QUEUED, 1)
        assert now.waiting_for == "runner box to come online, for attempt 2 of 2"
        third = await control.submit(queue=True)
        assert (await control.job(third.job_id)).queue_position == 2
        await control.runners.ResumeRunner(runner_pb2.ResumeRunnerRequest(runner_id="box"), metadata=control.auth)
        assert (await after(box, first.attempt_id)).job_id == waiting.job_id


async def test_a_job_whose_runner_is_uninstalled_while_it_waits_is_over(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        _, box = await control.box()
        await box.connect()
        job = await control.submit(limits=Limits(retries=1))
        assignment = await box.assignment()
        suspend = runner_pb2.SuspendRunnerRequest(runner_id="box", reason="it goes")
        await control.runners.SuspendRunner(suspend, metadata=control.auth)
        await let_down(box, assignment)
        await control.runners.UninstallRunner(runner_pb2.UninstallRunnerRequest(runner_id="box"), metadata=control.auth)

        async def over() -> job_pb2.Job | None:
            now = await control.job(job.job_id)
            return now if now.state == State.JOB_STATE_KILLED else None

        ended = await eventually(over)
        assert ended is not None
        assert ended.reason == EndReason.END_REASON_RUNNER_UNINSTALLED
        assert "runner box, for which the job waited, was uninstalled" in ended.message
        assert len(ended.earlier_attempts) == 1


async def test_a_stall_is_shown_while_it_lasts(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        _, box = await control.box()
        welcome = await box.connect()
        job = await control.submit()
        assert job.spec.limits.stall_minutes == 30, "the default is written into the log"
        assignment = await box.assignment()
        at = moment(welcome.platform_at_ms + 1)
        await box.report(assignment, 1, started=Started(at=at))
        await box.report(assignment, 2, stalled=Stalled(since=at, step=4))
        assert (await control.job(job.job_id)).stalled_since_ms > 0
        await box.report(assignment, 3, progressed=Progressed(at=at, step=5))
        assert (await control.job(job.job_id)).stalled_since_ms == 0
        await box.report(assignment, 4, evaluated=Evaluated(step=6))
        assert (await box.report(assignment, 3, progressed=Progressed(at=at, step=5))).rejected == ""


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(retries=21), "limits.retries is '21'"),
        (Limits(stall_minutes=-2), "limits.stall_minutes is '-2'"),
        (Limits(stall_minutes=-1, stop_when_stalled=True), "contradicts stall_minutes -1"),
    ],
)
async def test_limits_that_make_no_sense_are_refused(control: Control, limits: Limits, sentence: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await control.submit(runner="", queue=True, limits=limits)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in (refused.value.details() or "")


async def test_a_training_that_never_stalls_can_be_asked_for(control: Control) -> None:
    job = await control.submit(runner="", queue=True, limits=Limits(stall_minutes=-1))
    assert job.spec.limits.stall_minutes == -1
    assert (await control.runner()).status == RunnerStatus.RUNNER_STATUS_OFFLINE


@pytest.fixture
async def control(database: DatabaseUrls) -> AsyncIterator[Control]:
    async with control_plane(database) as control:
        await control.dataset()
        await control.create_runner()
        yield control
