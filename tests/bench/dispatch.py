"""From SubmitJob to the release of the trainer: real services, agent and keepers; only torch is left out."""

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
from tests.support.eventually import eventually
from tests.support.installed_runner import InstalledRunner
from tests.support.servers import bearer

_WARM_UP, _SAMPLES = 20, 200
_QUIET_NS = 300_000_000
_TRAINER = [sys.executable, "-I", "-S", str(Path(__file__).with_name("instant_trainer.py"))]


def run(report: Callable[[str, float], None], folder: Path) -> None:
    """dispatch_p50_ms, dispatch_p99_ms, and beside them a bare start of the interpreter and a bare call."""
    uvloop.run(_measure(report, folder))


async def _measure(report: Callable[[str, float], None], folder: Path) -> None:
    async with (
        Platform(Home(folder / "platform")) as platform,
        grpc.aio.insecure_channel(platform.endpoints["scheduler"]) as channel,
    ):
        auth = bearer(platform.token)
        runners, workflows = RunnerServiceStub(channel), WorkflowServiceStub(channel)
        created = await runners.CreateRunner(runner_pb2.CreateRunnerRequest(name="box"), metadata=auth)
        dataset = workflow_pb2.RegisterDatasetRequest(name="none", location="/none")
        await workflows.RegisterDataset(dataset, metadata=auth)
        with InstalledRunner(folder / "box", platform.endpoints["scheduler"]) as box:
            box.folder.secret_key.write_text(created.secret_key)
            box.start_agent()
            bench = _Bench(channel, box, auth)
            for _ in range(_WARM_UP):
                await bench.sample()
            took = sorted([await bench.sample() for _ in range(_SAMPLES)])
            report("dispatch_p50_ms", statistics.median(took))
            report("dispatch_p99_ms", took[int(len(took) * 0.99) - 1])
            calls = sorted([await bench.bare_call() for _ in range(_SAMPLES)])
            report("raw_call_p50_ms", statistics.median(calls))
    starts = sorted([await _bare_start() for _ in range(20)])
    report("raw_interpreter_start_p50_ms", statistics.median(starts))


class _Bench:
    def __init__(self, channel: grpc.aio.Channel, box: InstalledRunner, auth: tuple[tuple[str, str], ...]) -> None:
        self._jobs, self._runners = JobServiceStub(channel), RunnerServiceStub(channel)
        self._box, self._auth = box, auth

    async def sample(self) -> float:
        """Milliseconds from the call to the line on the trainer's standard input."""
        keeper = self._box.start_keeper(command=_TRAINER)
        await eventually(self._warm, 30, "a warm trainer")
        await eventually(self._online, 30, "an online runner")
        # What the last training left to do is done: a dispatch is measured on a runner that waits.
        quiet_ns = time.monotonic_ns() + _QUIET_NS
        await eventually(lambda: time.monotonic_ns() > quiet_ns)
        request = job_pb2.SubmitJobRequest(dataset_id="none", architecture_id="resnet-tiny", runner_id="box")
        called_ns = time.monotonic_ns()
        job = (await self._jobs.SubmitJob(request, metadata=self._auth)).job
        released = self._box.folder.attempts / job.attempt_id / "released"
        await eventually(released.exists, 30, "the release")
        await asyncio.to_thread(keeper.wait, 30)
        return (int(released.read_text()) - called_ns) / 1e6

    def _warm(self) -> bool:
        """As the agent sees it."""
        view = json.loads(self._box.folder.status.read_text())
        return bool(view["warm"] and view["connected"])

    async def _online(self) -> bool:
        found = await self._runners.GetRunner(runner_pb2.GetRunnerRequest(runner_id="box"), metadata=self._auth)
        return found.runner.status == 1

    async def bare_call(self) -> float:
        """Milliseconds of a call that reads one row: what a call costs before it does anything."""
        began_ns = time.monotonic_ns()
        await self._online()
        return (time.monotonic_ns() - began_ns) / 1e6


async def _bare_start() -> float:
    """Milliseconds of an interpreter that does nothing: what a dispatch without a warm trainer pays at the least."""
    began_ns = time.monotonic_ns()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await process.wait()
    return (time.monotonic_ns() - began_ns) / 1e6
