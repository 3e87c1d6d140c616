"""A training whose keeper is killed goes on by itself, from its last checkpoint, as one training."""

import json
import os
import signal
from pathlib import Path

import pytest

from protos.events.v1.job_pb2 import JobAssigned, JobFailed, JobStarted
from protos.scheduler.v1 import job_pb2
from protos.training.v1.training_pb2 import EndReason, Limits
from services.eventlog.catalogue import payload_of
from tests.support.eventually import eventually
from tests.support.platform import SharedPlatform
from tests.support.stack import Stack, stack_on

EPOCHS = 80


async def with_checkpoint(stack: Stack, job_id: str) -> bool:
    return bool((await stack.job(job_id)).checkpoints)


def first_step(stack: Stack, attempt_id: str) -> int:
    """Of the optimiser, in what the trainer of an attempt wrote."""
    points = [record["points"] for record in stack.spool(attempt_id, "trainer") if "points" in record]
    return min(int(point["step"]) for point in points)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_training_whose_keeper_is_killed_goes_on_from_its_last_checkpoint(
    platform: SharedPlatform, tmp_path: Path
) -> None:
    async with stack_on(platform, tmp_path, runner="retry") as stack:
        job = await stack.submit(limits=Limits(epochs=EPOCHS, retries=1))
        await eventually(lambda: with_checkpoint(stack, job.job_id), 120, "a checkpoint")
        phase = json.loads((stack.box.state / "attempts" / job.attempt_id / "phase.json").read_text())
        os.kill(phase["keeper_pid"], signal.SIGKILL)

        done = await stack.over(job.job_id, 240)
        assert (done.state, done.attempt) == (job_pb2.JOB_STATE_FINISHED, 2), done.message
        (earlier,) = done.earlier_attempts
        assert (earlier.attempt_id, earlier.reason) == (job.attempt_id, EndReason.END_REASON_INFRASTRUCTURE)
        events = [payload_of(one) for one in await stack.events(stream_kind="job", stream_id=job.job_id)]
        assert [event.will_retry for event in events if isinstance(event, JobFailed)] == [True]
        second = [event for event in events if isinstance(event, JobAssigned)][1].resume_from
        assert (second.attempt_id, second.step > 0) == (job.attempt_id, True)
        started = [event.weights for event in events if isinstance(event, JobStarted)]
        assert started == ["random", f"{second.checkpoint} of {job.attempt_id}"]

        assert first_step(stack, done.attempt_id) == second.step + 1, "the step goes on"
        assert done.epochs == EPOCHS

        async def all_steps() -> bool:
            steps = (await stack.series(job.job_id, "train/loss")).steps
            return list(steps) == list(range(1, done.steps + 1))

        await eventually(all_steps, 60, "each step once, of both attempts")
        charge = await stack.charge(job.job_id)
        assert [attempt.attempt_id for attempt in charge.attempts] == [job.attempt_id, done.attempt_id]
        intervals = [earlier.interval, done.interval]
        charged = [(one.charged_until_ms - one.started_at_ms) * 2_500_000 for one in intervals]
        assert [attempt.charged_ms_micros for attempt in charge.attempts] == charged
        assert intervals[0].charged_until_ms <= intervals[1].started_at_ms, "nothing is charged twice"
        verified = await stack.verified()
        assert verified.equal, verified.differences
