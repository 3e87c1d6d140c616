"""Two runners of one box at one platform, each with GPUs of its own: both train at the same time."""

import json
from pathlib import Path

import grpc
import pytest

from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1 import job_pb2, runner_pb2, workflow_pb2
from runner_agent.suspension import DRAINING
from tests.support.eventually import eventually
from tests.support.owner import Owner
from tests.support.platform import SharedPlatform
from tests.support.stack import Stack

NAMES = ("left", "right")


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_two_runners_of_one_box_train_at_the_same_time_and_one_stops_after_its_training(
    platform: SharedPlatform, tmp_path: Path
) -> None:
    channels = {name: grpc.aio.insecure_channel(where) for name, where in platform.endpoints.items()}
    stack = Stack(platform, tmp_path, channels, "")
    owner = Owner(tmp_path / "home", platform.endpoints["scheduler"])
    owner.hold("run")
    try:
        dataset = workflow_pb2.RegisterDatasetRequest(name="data of two", location=str(tmp_path))
        await stack.call(stack.workflows.RegisterDataset, dataset)
        for name in NAMES:
            created = await stack.call(stack.runners.CreateRunner, runner_pb2.CreateRunnerRequest(name=name))
            install = ("install", "--server", owner.server, "--name", name, "--simulate-gpus", "NVIDIA A10G:2")
            await owner.runs(*install, TETHER_RUNNER_KEY=created.secret_key)
            await owner.starts(name)

        async def runner(name: str) -> runner_pb2.Runner:
            request = runner_pb2.GetRunnerRequest(runner_id=name)
            answer: runner_pb2.GetRunnerResponse = await stack.call(stack.runners.GetRunner, request)
            return answer.runner

        gpus = [gpu.uuid for name in NAMES for gpu in (await runner(name)).inventory.gpus]
        assert len(set(gpus)) == 4, "simulated GPUs have numbers of their own, too"
        jobs = {name: await stack.submit(dataset_id="data of two", runner_id=name) for name in NAMES}
        for name in NAMES:
            await eventually(lambda: stack.running(jobs[name].job_id), 60, f"the training on {name}")  # noqa: B023
        assert [(await runner(name)).status for name in NAMES] == [RunnerStatus.RUNNER_STATUS_OCCUPIED] * 2
        rows = json.loads(await owner.runs("list", "--json"))
        assert [(row["name"], row["state"], row["job_id"]) for row in rows] == [
            (name, "training", jobs[name].job_id) for name in NAMES
        ]
        for name in NAMES:
            seen = await stack.series(jobs[name].job_id, "train/loss")

            async def further(name: str = name, after: int = len(seen.steps)) -> bool:
                return len((await stack.series(jobs[name].job_id, "train/loss")).steps) > after

            await eventually(further, 30, f"steps on {name}")

        assert jobs["left"].job_id in await owner.runs("stop", "--after-job", "--name", "left")
        reasons = [one.reason for one in (await runner("left")).suspensions]
        assert reasons == [DRAINING]
        assert not (await runner("right")).suspensions
        owner.let_go("run")
        for name in NAMES:
            assert (await stack.over(jobs[name].job_id)).state == job_pb2.JOB_STATE_FINISHED
        await eventually(lambda: owner.launcher("left") == 0, what="the end of the runner that was to stop")

        async def offline() -> bool:
            return (await runner("left")).status == RunnerStatus.RUNNER_STATUS_OFFLINE

        await eventually(offline)
        assert (await runner("right")).status == RunnerStatus.RUNNER_STATUS_ONLINE
        assert "stopped" in await owner.runs("stop", "--name", "right")
    finally:
        await owner.clear()
        for channel in channels.values():
            await channel.close()
