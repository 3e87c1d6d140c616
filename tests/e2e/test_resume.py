"""A training that a person stopped goes on as another job, from the step of its checkpoint, with real processes."""

from pathlib import Path

import pytest

from protos.events.v1.job_pb2 import JobAssigned
from protos.scheduler.v1 import job_pb2
from protos.training.v1.training_pb2 import Limits
from services.eventlog.catalogue import payload_of
from tests.support.eventually import eventually
from tests.support.platform import SharedPlatform
from tests.support.stack import Stack, stack_on


async def with_checkpoint(stack: Stack, job_id: str) -> bool:
    return bool((await stack.job(job_id)).checkpoints)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_stopped_training_goes_on_as_a_new_job_from_the_step_of_its_checkpoint(
    platform: SharedPlatform, tmp_path: Path
) -> None:
    async with stack_on(platform, tmp_path, runner="resume") as stack:
        first = await stack.submit(limits=Limits(epochs=1000))
        await eventually(lambda: with_checkpoint(stack, first.job_id), 120, "a checkpoint")
        await stack.call(stack.jobs.StopJob, job_pb2.StopJobRequest(job_id=first.job_id))
        stopped = await stack.over(first.job_id, 120)
        assert stopped.state == job_pb2.JOB_STATE_KILLED
        newest = stopped.checkpoints[-1]
        assert newest.step == stopped.steps, "it saved where it was stopped"

        request = job_pb2.ResumeJobRequest(job_id=first.job_id, limits=Limits(steps=newest.step + 60))
        job = (await stack.call(stack.jobs.ResumeJob, request)).job
        done = await stack.over(job.job_id, 240)
        assert done.state == job_pb2.JOB_STATE_FINISHED, done.message
        assert (done.steps, done.resumed_job_id) == (newest.step + 60, first.job_id)

        async def its_steps() -> bool:
            steps = (await stack.series(job.job_id, "train/loss")).steps
            return list(steps) == list(range(newest.step + 1, done.steps + 1))

        await eventually(its_steps, 60, "its own steps and no other")
        events = [payload_of(one) for one in await stack.events(stream_kind="job", stream_id=job.job_id)]
        (assigned,) = (event for event in events if isinstance(event, JobAssigned))
        assert not assigned.HasField("resume_from"), "its settings say it"
        before = await stack.job(first.job_id)
        assert before.interval == stopped.interval, "the earlier job's minutes are its own"
