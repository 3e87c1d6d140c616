"""A secret key is exchanged while a training runs."""

from pathlib import Path

import pytest

from protos.scheduler.v1 import job_pb2, runner_pb2
from protos.training.v1.training_pb2 import Limits
from tests.support.eventually import eventually
from tests.support.platform import SharedPlatform
from tests.support.stack import stack_on


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_training_goes_on_when_its_box_gets_the_new_key(platform: SharedPlatform, tmp_path: Path) -> None:
    async with stack_on(platform, tmp_path, runner="keys") as stack:
        job = await stack.submit(limits=Limits(epochs=80))
        await eventually(lambda: stack.running(job.job_id), 60, "a running training")
        request = runner_pb2.RegenerateSecretKeyRequest(runner_id="keys")
        key = (await stack.call(stack.runners.RegenerateSecretKey, request)).secret_key

        async def refused() -> bool:
            return "withdrawn" in (await stack.box.status())["error"]

        await eventually(refused, 30, "an agent that was told why")
        await stack.box.command("reauth", env={"TETHER_RUNNER_KEY": key})
        done = await stack.over(job.job_id)
        assert (done.state, done.attempt_id) == (job_pb2.JOB_STATE_FINISHED, job.attempt_id)
        types = [record.type for record in await stack.events(stream_kind="job", stream_id=job.job_id)]
        assert types.count("JobStarted") == types.count("JobFinished") == 1
        series = await stack.series(job.job_id, "train/loss")
        assert list(series.steps) == list(range(1, done.steps + 1)), "no step is missing or doubled"
