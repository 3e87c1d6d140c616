"""What the tests of real faults share: a platform with a short window, boxes on it, and the laws that must hold.

Launcher, agent, keeper and scheduler are the real ones. The trainer is the gated one (no torch), so that a training
stands still in the phase in which the test strikes, and tells by the box's CLOCK_BOOTTIME when it trained.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc

from deploy.local.home import Home
from deploy.local.platform import Platform, service_argv
from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1 import job_pb2, runner_pb2, workflow_pb2
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from protos.training.v1.training_pb2 import EndReason
from runner_agent import clock
from tests.support.eventually import eventually
from tests.support.fault_box import FaultBox
from tests.support.keeper_under_test import alive
from tests.support.loop_thread import LoopThread
from tests.support.namespaces import platform_address
from tests.support.platform import SharedPlatform
from tests.support.servers import bearer
from tests.support.stack import PATIENCE_S, Stack

# Heartbeats come every 5 s: with this window two in a row may be lost.
WINDOW_MS = 12_000
LONG_LEASE_MS = 60_000
# What a lapse may add to a charge or take from it, beside the truth of the box.
TOLERANCE_MS = 1_000
FINAL = ("JobFinished", "JobFailed", "JobKilled")
DATASET = "none"


@contextmanager
def platform_with_window(
    loop: LoopThread,
    folder: Path,
    window_ms: int = WINDOW_MS,
    *,
    lease_ms: int = 15_000,
    for_namespaces: bool = False,
) -> Iterator[SharedPlatform]:
    """The whole platform. `for_namespaces`: boxes find scheduler and metrics at `platform_address()`.

    Nobody calls the sessions of a scheduler that is gone lost before its lease is over: with a long one its successor
    may take its time, on a machine that is busy.
    """

    def argv(service: str) -> Sequence[str]:
        ports = {name: address.rpartition(":")[2] for name, address in platform.endpoints.items()}
        more: list[str] = []
        if for_namespaces and service in ("scheduler", "metrics"):
            more = ["--insecure", "--listen", f"0.0.0.0:{ports[service]}"]
        if for_namespaces and service == "scheduler":
            more += ["--ingest-address", f"{platform_address()}:{ports['metrics']}"]
        return [*service_argv(service), *more]

    settings = {"TETHER_WINDOW_MS": str(window_ms), "TETHER_LEASE_MS": str(lease_ms)}
    platform = Platform(Home(folder), lambda line: None, settings, argv)
    loop.call(platform.start())
    try:
        yield SharedPlatform(loop, platform)
    finally:
        loop.call(platform.stop())


class FaultStack(Stack):
    """A platform's clients, and one box on it."""

    def __init__(self, platform: SharedPlatform, channels: dict[str, grpc.aio.Channel], box: FaultBox) -> None:
        super().__init__(platform, box.folder.root.parent, channels, box.name)
        self.faulty = box

    async def begin(self, *gates: str) -> job_pb2.Job:
        """A training that stands at the first of these gates that it comes to."""
        self.faulty.hold(*gates)
        return await self.submit(dataset_id=DATASET)

    async def trains(self) -> job_pb2.Job:
        """A training that is known to run, and runs until its gates are opened."""
        await eventually(self.faulty.ready, 60, f"{self.runner} ready")
        return await self.comes_to("running")

    async def goes_on(self, job: job_pb2.Job) -> None:
        """The training makes further steps."""
        seen = len(self.faulty.observed(job.attempt_id, "step"))
        await eventually(lambda: len(self.faulty.observed(job.attempt_id, "step")) > seen + 2, 20, "further steps")

    async def finishes(self, job: job_pb2.Job) -> job_pb2.Job:
        """Nothing happened to the training: it ends when it is let go, and cost what it ran."""
        self.faulty.let_go()
        done = await self.reaches_one_end(job)
        assert done.state == job_pb2.JOB_STATE_FINISHED, done.message
        await self.charges_what_ran(done)
        return done

    async def ended_itself(self, job: job_pb2.Job, timeout_s: float = 60) -> job_pb2.Job:
        """The platform tells the truth about a training that was cut off for longer than its window."""
        done = await self.reaches_one_end(job, timeout_s)
        assert (done.state, done.reason) == (job_pb2.JOB_STATE_KILLED, EndReason.END_REASON_CONNECTION_LOST), done
        return done

    async def stop_job(self, job_id: str) -> None:
        await self.call(self.jobs.StopJob, job_pb2.StopJobRequest(job_id=job_id, reason="the test has seen enough"))

    async def comes_to(self, phase: str) -> job_pb2.Job:
        """A training in that phase: assigned, starting, running or ending."""
        box = self.faulty
        gates = {"assigned": ("ready", "run"), "starting": ("start", "run"), "running": ("run",), "ending": ("end",)}
        job = await self.begin(*gates[phase], *(("run",) if phase == "ending" else ()))
        seen = {
            "assigned": lambda: box.attempt(job.attempt_id).phase().get("phase") == "starting",
            "starting": lambda: box.observed(job.attempt_id, "released"),
            "running": lambda: len(box.observed(job.attempt_id, "step")) > 2,
            "ending": lambda: len(box.observed(job.attempt_id, "step")) > 2,
        }
        await eventually(seen[phase], 30, f"{box.name} {phase}")
        if phase in ("running", "ending"):
            await eventually(lambda: self.running(job.job_id), 30, f"{box.name} known to run")
        if phase == "ending":
            await self.stop_job(job.job_id)
            await eventually(lambda: box.observed(job.attempt_id, "stopping"), 30, f"{box.name} ending")
            # The keeper tells the trainer first and writes it down then: from here on its death hides nothing.
            noted = box.attempt(job.attempt_id).phase
            await eventually(lambda: noted().get("phase") == "stopping", 30, f"{box.name}'s note of the stop")
        return job

    async def history(self, job_id: str) -> list[EventRecord]:
        return await self.events(stream_kind="job", stream_id=job_id)

    async def types(self, job_id: str) -> list[str]:
        return [record.type for record in await self.history(job_id)]

    async def runner_types(self) -> list[str]:
        found = await self.call(self.runners.GetRunner, runner_pb2.GetRunnerRequest(runner_id=self.runner))
        records = await self.events(stream_kind="runner", stream_id=found.runner.runner_id)
        return [record.type for record in records]

    async def runner_now(self) -> runner_pb2.Runner:
        request = runner_pb2.GetRunnerRequest(runner_id=self.runner)
        answer: runner_pb2.GetRunnerResponse = await self.call(self.runners.GetRunner, request)
        return answer.runner

    async def online(self) -> bool:
        return (await self.runner_now()).status == RunnerStatus.RUNNER_STATUS_ONLINE

    # ---- laws

    async def reaches_one_end(self, job: job_pb2.Job, timeout_s: float = 60) -> job_pb2.Job:
        """The job once its box has told its end, after which the runner takes the next one.

        It was given to the box once, started at most once, by one process, and has one end.
        """
        done = await self.over(job.job_id, timeout_s)
        await eventually(self.online, 30, f"{self.runner} online again")
        types = await self.types(job.job_id)
        assert types.count("JobAssigned") == 1, types
        assert types.count("JobStarted") <= 1, types
        assert sum(types.count(name) for name in FINAL) == 1, types
        assert len(self.faulty.observed(job.attempt_id, "released")) <= 1
        assert len({line["pid"] for line in self.faulty.observed(job.attempt_id)}) <= 1
        return await self.job(done.job_id)

    async def charges_what_ran(self, job: job_pb2.Job, less_by_at_most_ms: int = 0) -> None:
        """The charge is the time that the box's trainer noted, and quota has the same from the log."""
        charged_ms = job.interval.charged_until_ms - job.interval.started_at_ms
        ran_ms = self.faulty.ran_ms(job.attempt_id)
        least_ms = ran_ms - TOLERANCE_MS - less_by_at_most_ms
        assert least_ms <= charged_ms <= ran_ms + TOLERANCE_MS, f"{charged_ms} ms charged, {ran_ms} ms ran"
        assert not job.interval.presumed
        charge = await self.charge(job.job_id)
        assert sum(one.charged_ms_micros for one in charge.attempts) == charged_ms * job.rate_micros

    async def has_everything(self, job: job_pb2.Job) -> None:
        """Each point and each log line of a trainer that could say its last word arrived once, and in order."""
        wanted = list(range(1, len(self.faulty.observed(job.attempt_id, "step")) + 1))

        async def all_of_it() -> bool:
            lines = await self.lines(job.job_id)
            return len(lines) >= len(wanted) and len((await self.series(job.job_id, "train/loss")).steps) >= len(wanted)

        await eventually(all_of_it, 60, f"{len(wanted)} records of {self.runner}")
        series = await self.series(job.job_id, "train/loss")
        assert list(series.steps) == wanted
        assert list(series.values) == [1 / step for step in wanted]
        lines = await self.lines(job.job_id)
        assert [(line.sequence, line.text) for line in lines] == [(step, f"step {step}") for step in wanted]

    async def runs_another(self, *earlier: job_pb2.Job) -> None:
        """The next training runs on the runner, after everything of the earlier ones has ended."""
        box = self.faulty
        box.let_go()
        await eventually(box.ready, 30, f"{self.runner} ready for the next training")
        job = await self.submit(dataset_id=DATASET)
        done = await self.over(job.job_id, 60)
        assert done.state == job_pb2.JOB_STATE_FINISHED, done.message
        began_ns = box.observed(job.attempt_id)[0]["boottime_ns"]
        for one in earlier:
            assert one.attempt_id != job.attempt_id
            assert all(line["boottime_ns"] < began_ns for line in box.observed(one.attempt_id)), "two trainings lived"
            assert not alive(box.pid("trainer", one.attempt_id))
            assert not alive(box.pid("keeper", one.attempt_id))


@asynccontextmanager
async def clients_of(platform: SharedPlatform) -> AsyncIterator[dict[str, grpc.aio.Channel]]:
    """Channels that dial a service that is away again soon."""
    options = [(f"grpc.{bound}_reconnect_backoff_ms", 200) for bound in ("initial", "min", "max")]
    channels = {name: grpc.aio.insecure_channel(where, options=options) for name, where in platform.endpoints.items()}
    try:
        yield channels
    finally:
        for channel in channels.values():
            await channel.close()


@asynccontextmanager
async def box_on(
    platform: SharedPlatform, folder: Path, name: str, enter: Sequence[str] = (), *, gated: bool = True
) -> AsyncIterator[FaultStack]:
    """A box that is online with a trainer at hand; all of it is gone at the end."""
    async with clients_of(platform) as channels:
        created = await RunnerServiceStub(channels["scheduler"]).CreateRunner(
            runner_pb2.CreateRunnerRequest(name=name),
            metadata=bearer(platform.token),
            timeout=PATIENCE_S,
            wait_for_ready=True,
        )
        server = platform.endpoints["scheduler"]
        if enter:
            server = f"{platform_address()}:{server.rpartition(':')[2]}"
        box = FaultBox(folder / name, name, server, created.secret_key, enter, gated=gated)
        stack = FaultStack(platform, channels, box)
        with contextlib.suppress(grpc.aio.AioRpcError):
            dataset = workflow_pb2.RegisterDatasetRequest(name=DATASET, location="/none")
            await stack.call(stack.workflows.RegisterDataset, dataset)
        try:
            box.start()
            yield stack
        finally:
            box.stop()


async def together(cases: Mapping[str, Awaitable[None]]) -> None:
    """Run cases at once; the failures of all of them are told by their names."""
    results = await asyncio.gather(*cases.values(), return_exceptions=True)
    failures = []
    for name, result in zip(cases, results, strict=True):
        if isinstance(result, BaseException):
            result.add_note(f"case: {name}")
            failures.append(result)
    if failures:
        raise BaseExceptionGroup(f"{len(failures)} of {len(cases)} cases failed", failures)


async def passes(seconds: float) -> None:
    """Let that much of the box's time pass."""
    until_ns = clock.boottime_ns() + int(seconds * 1e9)
    await eventually(lambda: clock.boottime_ns() >= until_ns, seconds + 30, f"{seconds:g} s")
