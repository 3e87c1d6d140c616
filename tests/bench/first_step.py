"""From SubmitJob to the first optimiser step on the handwritten digits: everything is real, and the trainer is warm."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import uvloop

from deploy.local.home import Home
from deploy.local.platform import Platform
from protos.scheduler.v1 import job_pb2, runner_pb2, workflow_pb2
from protos.scheduler.v1.job_pb2_grpc import JobServiceStub
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from protos.scheduler.v1.workflow_pb2_grpc import WorkflowServiceStub
from protos.training.v1 import training_pb2
from runner_agent import clock
from runner_agent.trainer.datasets.sample import write_digits
from tests.support.eventually import eventually
from tests.support.installed_runner import InstalledRunner
from tests.support.servers import bearer

_SAMPLES, _RAW_SAMPLES = 3, 2
_QUIET_NS = 500_000_000
_TRAINER = [sys.executable, "-m", "runner_agent.trainer"]
_IMPORTS = "import torch, lightning, transformers"


def run(report: Callable[[str, float], None], folder: Path) -> None:
    """first_step_s, the median, and beside it the bare import of what a trainer needs."""
    uvloop.run(_measure(report, folder))


async def _measure(report: Callable[[str, float], None], folder: Path) -> None:
    write_digits(folder / "digits")
    async with (
        Platform(Home(folder / "platform")) as platform,
        grpc.aio.insecure_channel(platform.endpoints["scheduler"]) as channel,
    ):
        auth = bearer(platform.token)
        runners, workflows = RunnerServiceStub(channel), WorkflowServiceStub(channel)
        created = await runners.CreateRunner(runner_pb2.CreateRunnerRequest(name="box"), metadata=auth)
        dataset = workflow_pb2.RegisterDatasetRequest(name="digits", location=str(folder / "digits"))
        await workflows.RegisterDataset(dataset, metadata=auth)
        with InstalledRunner(folder / "box", platform.endpoints["scheduler"]) as box:
            box.folder.secret_key.write_text(created.secret_key)
            box.start_agent()
            took = [await _sample(channel, box, auth) for _ in range(_SAMPLES)]
    report("first_step_s", statistics.median(took))
    report("raw_import_torch_lightning_transformers_s", min([await _bare_import() for _ in range(_RAW_SAMPLES)]))


async def _sample(channel: grpc.aio.Channel, box: InstalledRunner, auth: tuple[tuple[str, str], ...]) -> float:
    """Seconds from the call to the end of the first step."""
    keeper = box.start_keeper(command=_TRAINER)

    def waits() -> bool:
        view = json.loads(box.folder.status.read_text()) if box.folder.status.exists() else {}
        return bool(view.get("warm") and view.get("connected") and view.get("attempt") is None)

    await eventually(waits, 120, "a warm trainer")
    quiet_ns = time.monotonic_ns() + _QUIET_NS
    await eventually(lambda: time.monotonic_ns() > quiet_ns)
    request = job_pb2.SubmitJobRequest(
        dataset_id="digits",
        architecture_id="resnet-tiny",
        runner_id="box",
        limits=training_pb2.Limits(steps=1),
    )
    called_ms = clock.wall_ms()
    job = (await JobServiceStub(channel).SubmitJob(request, metadata=auth)).job
    spool = box.folder.attempts / job.attempt_id / "spool" / "trainer.jsonl"
    first = await eventually(lambda: _first_step(spool), 60, "the first step")
    await asyncio.to_thread(keeper.wait, 60)
    assert first is not None
    return (first - called_ms) / 1000


def _first_step(spool: Path) -> int | None:
    """The moment of the first step, Unix milliseconds."""
    if not spool.exists():
        return None
    # The last line may be on its way.
    records = [json.loads(line) for line in spool.read_bytes().split(b"\n")[:-1]]
    return next((int(one["at_ms"]) for one in records if "train/loss" in one.get("points", {}).get("values", {})), None)


async def _bare_import() -> float:
    """Seconds that an interpreter takes which imports what a training needs: without a warm trainer, the least."""
    began_ns = time.monotonic_ns()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _IMPORTS)
    await process.wait()
    return (time.monotonic_ns() - began_ns) / 1e9
