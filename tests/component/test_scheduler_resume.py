"""A job that goes on from another one's checkpoint, over real gRPC, with boxes that the test plays."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from protos.common.v1.errors_pb2 import CheckpointElsewhere
from protos.common.v1.moment_pb2 import Moment
from protos.events.v1.artifact_pb2 import ArtifactRemoved, ArtifactStored
from protos.scheduler.v1 import job_pb2
from protos.scheduler.v1.session_pb2 import Assignment, BoxMoment, Checkpointed, Ended, Outcome, Started
from protos.training.v1.training_pb2 import (
    Checkpoint,
    CheckpointReference,
    EndReason,
    InitialWeights,
    Limits,
    WeightsSource,
)
from services.eventlog.append import Append, StreamAppend
from services.scheduler import bootstrap as scheduler
from services.scheduler.rebuild import rebuild
from tests.support.box import Box, hello
from tests.support.control import Control, control_plane
from tests.support.eventually import eventually
from tests.support.log import appender_on, create_log, pool_on
from tests.support.platform import DatabaseUrls
from tests.support.servers import running, scheduler_settings
from tests.support.typed_errors import detail_of

State = job_pb2.JobState
NAME, SHA = "step-00000020.safetensors", "ab" * 32
FROM_CHECKPOINT = WeightsSource.WEIGHTS_SOURCE_CHECKPOINT


class Floor:
    """A workspace with two boxes and a job that was stopped on the first after it saved a checkpoint."""

    def __init__(self, control: Control, database: DatabaseUrls) -> None:
        self.control, self._database = control, database

    async def prepare(self) -> None:
        await self.control.dataset()
        _, self.box = await self.control.box("box-1")
        _, self.other = await self.control.box("box-2")
        welcome = await self.box.connect()
        await self.other.connect(hello(installation_id="i-2"))
        self.at = BoxMoment(anchor_at_ms=welcome.platform_at_ms + 1)
        self.first = await self.control.submit("box-1", limits=Limits(epochs=3, retries=1), name="first")
        self.held = await self.box.assignment()
        await self.box.report(self.held, 1, started=Started(at=self.at, weights="random"))
        saved = Checkpoint(name=NAME, step=20, epoch=2, sha256=SHA, best=True)
        await self.box.report(self.held, 2, checkpointed=Checkpointed(checkpoint=saved))

    async def stop(self) -> None:
        await self.end(self.box, self.held, 3)

    async def end(self, box: Box, held: Assignment, sequence: int) -> None:
        stopped = EndReason.END_REASON_STOPPED_BY_PERSON
        killed = Ended(
            outcome=Outcome.OUTCOME_KILLED, reason=stopped, started_at=self.at, ended_at=self.at, steps=25, epochs=2
        )
        await box.report(held, sequence, ended=killed)

    async def resume(self, **more: Any) -> job_pb2.Job:
        request = job_pb2.ResumeJobRequest(**{"job_id": self.first.job_id, **more})
        return (await self.control.jobs.ResumeJob(request, metadata=self.control.auth)).job

    async def append(self, artifact_id: str, event: ArtifactStored | ArtifactRemoved) -> int:
        """As the metrics service does; returns when the scheduler shows it."""
        async with appender_on(self._database.metrics) as appender:
            stream = StreamAppend("artifact", artifact_id, None, [event])
            position = (await appender.append(Append(self.control.workspace_id, [stream], "service:metrics"))).position
        await self.control.jobs.ListJobs(job_pb2.ListJobsRequest(min_position=position), metadata=self.control.auth)
        return position

    async def store(self, artifact_id: str = "af_1") -> int:
        return await self.append(artifact_id, self.stored)

    @property
    def stored(self) -> ArtifactStored:
        attempt_id = self.held.attempt_id
        return ArtifactStored(
            job_id=self.first.job_id, attempt_id=attempt_id, kind="checkpoint", name=NAME, sha256=SHA, step=20
        )


@asynccontextmanager
async def a_floor(database: DatabaseUrls, *, stopped: bool = True) -> AsyncIterator[Floor]:
    async with control_plane(database) as control:
        floor = Floor(control, database)
        await floor.prepare()
        if stopped:
            await floor.stop()
        yield floor


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


async def test_a_killed_job_goes_on_as_a_new_one_on_the_box_that_has_its_checkpoint(database: DatabaseUrls) -> None:
    async with a_floor(database) as floor:
        request_id = str(uuid.uuid4())
        job = await floor.resume(request_id=request_id, limits=Limits(epochs=9))
        assert (job.state, job.runner_name, job.name) == (State.JOB_STATE_ASSIGNED, "box-1", "first")
        assert (job.resumed_job_id, job.spec.limits.epochs) == (floor.first.job_id, 9)
        held = await floor.box.assignment()
        begins = held.spec.resume_from
        assert (begins.job_id, begins.attempt_id) == (floor.first.job_id, floor.held.attempt_id)
        assert (begins.checkpoint, begins.step, begins.sha256) == (NAME, 20, SHA)
        again = await floor.resume(request_id=request_id, limits=Limits(epochs=9))
        assert again.job_id == job.job_id, "a repeat of the request makes no second job"
        started = Started(
            at=floor.at, weights=NAME, weights_source=FROM_CHECKPOINT, warnings=["a warning"] * 30, batch_size=48
        )
        await floor.box.report(held, 1, started=started)
        now = await floor.control.job(job.job_id)
        assert (now.weights, now.weights_source, now.batch_size) == (NAME, FROM_CHECKPOINT, 48)
        assert list(now.warnings) == ["a warning"]
        earlier = await floor.control.job(floor.first.job_id)
        assert earlier.state == State.JOB_STATE_KILLED, "nothing of the earlier job has changed"


async def test_it_is_refused_where_it_cannot_be_with_the_reason(database: DatabaseUrls) -> None:
    async with a_floor(database, stopped=False) as floor:
        running_ = await refusal(floor.resume())
        assert "is RUNNING and goes on by itself" in (running_.details() or "")
        await floor.stop()
        elsewhere = await refusal(floor.resume(runner_id="box-2"))
        assert elsewhere.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "lies only on runner box-1; choose that runner" in (elsewhere.details() or "")
        told = detail_of(elsewhere, CheckpointElsewhere)
        assert (told.job_id, told.checkpoint) == (floor.first.job_id, NAME)
        assert "there is no checkpoint 'x'" in ((await refusal(floor.resume(checkpoint="x"))).details() or "")
        assert "there is no job 'jb_x'" in ((await refusal(floor.resume(job_id="jb_x"))).details() or "")
        limit = await refusal(floor.resume(limits=Limits(steps=20)))
        assert (limit.code(), "20 are done already" in (limit.details() or "")) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            True,
        )
        empty = await floor.control.submit("box-2")
        await floor.end(floor.other, await floor.other.assignment(), 1)
        nothing = await refusal(floor.resume(job_id=empty.job_id))
        assert f"job {empty.job_id} has saved no checkpoint; submit it again" in (nothing.details() or "")


async def test_another_runner_is_offered_once_the_platform_has_the_file_and_no_longer(database: DatabaseUrls) -> None:
    async with a_floor(database) as floor, pool_on(database.scheduler) as pool:
        before = await floor.store()
        (checkpoint,) = (await floor.control.job(floor.first.job_id)).checkpoints
        assert (checkpoint.artifact_id, checkpoint.attempt_id) == ("af_1", floor.held.attempt_id)
        job = await floor.resume(runner_id="box-2")
        held = await floor.other.assignment()
        assert (held.job_id, held.spec.resume_from.artifact_id) == (job.job_id, "af_1")

        waits = await floor.resume(runner_id="box-2", queue=True)
        assert waits.state == State.JOB_STATE_QUEUED
        behind = await floor.control.submit("box-2", queue=True, name="behind")
        removed = await floor.append("af_1", ArtifactRemoved(job_id=floor.first.job_id, reason="displaced"))
        await floor.end(floor.other, held, 1)
        assert (await floor.other.assignment()).job_id == behind.job_id, "box-2 was free, and cannot read it any more"
        now = await floor.control.job(waits.job_id)
        assert now.state == State.JOB_STATE_QUEUED
        assert now.waiting_for == f"runner box-2, which cannot read {NAME}: that lies only on runner box-1 by now"
        assert "lies only on runner box-1" in ((await refusal(floor.resume(runner_id="box-2"))).details() or "")
        assert (await floor.control.job(floor.first.job_id)).checkpoints[0].artifact_id == ""

        async def as_of(position: int) -> str:
            request = job_pb2.GetJobRequest(job_id=floor.first.job_id, as_of=Moment(position=position))
            answer = await floor.control.jobs.GetJob(request, metadata=floor.control.auth)
            return answer.job.checkpoints[0].artifact_id

        assert [await as_of(p) for p in (before - 1, before, removed - 1, removed)] == ["", "af_1", "af_1", ""]
        query = "select * from scheduler.artifacts"
        rows = await pool.fetch(query)
        async with pool.acquire() as connection:
            await rebuild(connection, pool)
        assert (await pool.fetch(query), len(rows)) == (rows, 1), "the rows are a function of the log"


async def test_it_waits_for_the_only_box_that_has_the_checkpoint_and_says_so(database: DatabaseUrls) -> None:
    async with a_floor(database) as floor:
        blocking = await floor.control.submit("box-1", name="blocks")
        held = await floor.box.assignment()
        assert held.job_id == blocking.job_id
        refused = await refusal(floor.resume())
        assert "lies only on runner box-1, which is OCCUPIED; add --queue to wait for it" in (refused.details() or "")
        job = await floor.resume(queue=True)
        waiting = (await floor.control.job(job.job_id)).waiting_for
        assert waiting == f"runner box-1 to come online: {NAME} of job {floor.first.job_id} lies only there"
        await floor.end(floor.box, held, 1)
        assert (await floor.box.assignment()).job_id == job.job_id


async def test_a_resumed_job_that_its_box_lets_down_is_tried_again_from_the_same_checkpoint(
    database: DatabaseUrls,
) -> None:
    async with a_floor(database) as floor:
        job = await floor.resume()
        held = await floor.box.assignment()
        failed = Ended(
            outcome=Outcome.OUTCOME_FAILED,
            reason=EndReason.END_REASON_INFRASTRUCTURE,
            started_at=floor.at,
            ended_at=floor.at,
        )
        await floor.box.report(held, 1, ended=failed)
        while (again := await floor.box.assignment()).attempt_id == held.attempt_id:
            continue
        assert again.job_id == job.job_id
        begins = again.spec.resume_from
        assert (begins.job_id, begins.checkpoint) == (floor.first.job_id, NAME)
        assert (await floor.control.job(job.job_id)).resumed_job_id == floor.first.job_id


async def test_weights_come_from_a_checkpoint_of_another_job_under_the_same_rule(database: DatabaseUrls) -> None:
    async with a_floor(database, stopped=False) as floor:
        control = floor.control

        async def submit(runner: str, architecture: str = "resnet-tiny", **wanted: Any) -> job_pb2.Job:
            checkpoint = CheckpointReference(job_id=floor.first.job_id, **wanted)
            weights = InitialWeights(source=FROM_CHECKPOINT, checkpoint=checkpoint)
            return await control.submit(runner, architecture_id=architecture, weights=weights)

        assert "lies only on runner box-1" in ((await refusal(submit("box-2"))).details() or "")
        assert "there is no checkpoint 'x'" in ((await refusal(submit("box-1", name="x"))).details() or "")
        await floor.store()
        job = await submit("box-2")
        assert job.state == State.JOB_STATE_ASSIGNED, "its optimiser is left behind, so the other may still train"
        used = (await floor.other.assignment()).spec.weights.checkpoint
        assert (used.name, used.step, used.sha256, used.artifact_id) == (NAME, 20, SHA, "af_1")
        assert (used.attempt_id, job.resumed_job_id) == (floor.held.attempt_id, "")


async def test_a_watcher_is_told_when_the_platform_has_a_checkpoint(database: DatabaseUrls) -> None:
    async with a_floor(database) as floor:
        request = job_pb2.WatchJobsRequest(job_id=floor.first.job_id)
        watching = aiter(floor.control.jobs.WatchJobs(request, metadata=floor.control.auth))
        first = await anext(watching)
        assert first.jobs[0].checkpoints[0].artifact_id == ""
        await floor.store()
        second = await anext(watching)
        assert second.jobs[0].checkpoints[0].artifact_id == "af_1"


async def test_what_was_stored_while_no_scheduler_ran_is_known_to_the_next(database: DatabaseUrls) -> None:
    await create_log(database)
    settings = scheduler_settings(database.scheduler)
    async with grpc.aio.insecure_channel(settings.listen) as channel:
        control = Control(channel, "")
        floor = Floor(control, database)
        async with running(scheduler.serve, settings):
            created = await control.create_workspace("test")
            control.token, control.workspace_id = created.secret, created.workspace_id
            await floor.prepare()
        async with appender_on(database.metrics) as appender:
            stream = StreamAppend("artifact", "af_1", None, [floor.stored])
            await appender.append(Append(control.workspace_id, [stream], "service:metrics"))
        async with running(scheduler.serve, settings):

            async def known() -> bool:
                return bool((await control.job(floor.first.job_id)).checkpoints[0].artifact_id)

            assert await eventually(known)
