"""`make demo`: a real training on a real runner, from Run Training to the compute minutes it cost.

Starts the platform in a temporary data directory, connects a runner with simulated GPUs, trains a small network on
1,797 handwritten digits with the commands that a person would type, and checks what it shows: exit code 0 means that
the accuracy was reached and the minutes recomputed from the event log are the minutes charged.

The page shows it meanwhile. With `--keep` the platform and its runner go on until Ctrl-C, to look around.
"""

import asyncio
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.local.errors import LocalError
from deploy.local.home import Home
from deploy.local.page import page_address, signed_in_address
from deploy.local.platform import GATEWAY, Platform
from deploy.local.up import STOP_SIGNALS
from protos.eventlog.v1 import eventlog_pb2
from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub
from protos.quota.v1 import quota_pb2
from protos.quota.v1.quota_pb2_grpc import QuotaServiceStub
from protos.scheduler.v1 import job_pb2, runner_pb2
from protos.scheduler.v1.job_pb2_grpc import JobServiceStub
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from services.words.events import sentence

if TYPE_CHECKING:
    from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceAsyncStub

GPUS = "NVIDIA A10G:2"
ACCURACY = 0.95
_BIN = Path(sys.executable).parent
_CALL_TIMEOUT_S = 30
_EPOCHS = 30
_TRAINING_TIMEOUT_S = 150

console = Console(highlight=False)


class DemoFailed(Exception):
    """Something that the demo shows did not hold."""


async def main(keep: bool) -> int:
    """Exit code: 0 only if everything held."""
    # What the commands print comes in between: whole lines, at once, also into a file.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    folder = Path(tempfile.mkdtemp(prefix="tether-demo-"))
    state = folder / "runner"
    try:
        async with Platform(Home(folder / "platform"), say=_say) as platform:
            token, address = platform.token, platform.endpoints
            await _show_page(platform)
            try:
                await _prepare(platform, folder, state)
                job_id = await _train(platform)
                async with _Clients(address, token) as clients:
                    await _summary(clients, job_id)
                if keep:
                    await _until_stopped(platform)
            finally:
                if state.exists():
                    await _run([str(_BIN / "tether-runner"), "stop", "--yes"], state, platform.home.root, quiet=True)
    except (DemoFailed, LocalError) as failed:
        console.print(f"\n[red]The demo did not hold:[/red] {failed}")
        console.print(f"What was logged is in {folder}.")
        return 1
    console.print("\n[bold]How to go on[/bold]")
    console.print(f"  {_shown('tether')} up                     your own platform, kept between starts")
    console.print(
        f"  {_shown('tether')} up --data-dir {folder / 'platform'}   this one again, with its history", soft_wrap=True
    )
    console.print(f"  rm -r {folder}             remove it")
    if not keep:
        console.print("  make demo KEEP=1              the demo again, going on until Ctrl-C with its page open")
    return 0


async def _show_page(platform: Platform) -> None:
    """Where to watch. What is no terminal may be a log, and in a log there must be no code."""
    gateway = platform.endpoints.get(GATEWAY)
    if gateway is None:
        return
    if sys.stdout.isatty():
        address = await signed_in_address(gateway, platform.endpoints["scheduler"], platform.token)
    else:
        address = page_address(gateway)
    console.print(f"\n[bold]The page[/bold]: {escape(address)}", soft_wrap=True)


async def _until_stopped(platform: Platform) -> None:
    """Until Ctrl-C, or until whoever started the demo ends it."""
    stopping = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await _show_page(platform)
    console.print("It goes on until Ctrl-C.")
    await stopping.wait()


async def _prepare(platform: Platform, folder: Path, state: Path) -> None:
    """A runner with its key, a box that holds it, and the digits as a dataset."""
    console.print("\n[bold]A runner[/bold]: the platform makes it, the box connects with its key")
    channel = grpc.aio.insecure_channel(platform.endpoints["scheduler"], options=[("grpc.enable_http_proxy", 0)])
    async with channel:
        runners = RunnerServiceStub(channel)
        metadata = _bearer(platform.token)
        created = await runners.CreateRunner(
            runner_pb2.CreateRunnerRequest(name="demo-box"), metadata=metadata, timeout=_CALL_TIMEOUT_S
        )
        runner, home = [str(_BIN / "tether-runner")], platform.home.root
        install = ["install", "--server", platform.endpoints["scheduler"], "--name", "demo-box"]
        key = {"TETHER_RUNNER_KEY": created.secret_key}
        await _run([*runner, *install, "--simulate-gpus", GPUS], state, home, key)
        await _run([*runner, "start"], state, home)
        await _online(runners, metadata)
    console.print("\n[bold]A dataset[/bold]: scikit-learn's handwritten digits, written to disk as an image folder")
    digits = folder / "digits"
    await _run([*runner, "sample", "digits", str(digits)], state, home)
    tether = [str(_BIN / "tether")]
    await _run([*tether, "datasets", "register", "digits", str(digits)], state, home)
    await _run([*tether, "datasets", "check", "digits", "--runner", "demo-box"], state, home)


async def _online(runners: "RunnerServiceAsyncStub", metadata: tuple[tuple[str, str], ...]) -> None:
    watch = runners.WatchRunners(runner_pb2.WatchRunnersRequest(), metadata=metadata, timeout=60)
    async for seen in watch:
        if any(runner.connected for runner in seen.runners):
            watch.cancel()
            return
    raise DemoFailed("the runner did not come online")


async def _train(platform: Platform) -> str:
    """Run Training, live, as a person would type it. Returns the job's id."""
    console.print("\n[bold]Run Training[/bold]")
    command = [str(_BIN / "tether"), "train", "digits", "resnet-tiny", "--runner", "demo-box", "--confusion-matrix"]
    command += ["--epochs", str(_EPOCHS)]
    try:
        async with asyncio.timeout(_TRAINING_TIMEOUT_S):
            await _run(command, None, platform.home.root)
    except TimeoutError:
        raise DemoFailed(f"the training did not end within {_TRAINING_TIMEOUT_S} s") from None
    async with _Clients(platform.endpoints, platform.token) as clients:
        listed = await clients.jobs.ListJobs(
            job_pb2.ListJobsRequest(page_size=1), metadata=clients.auth, timeout=_CALL_TIMEOUT_S
        )
    return listed.jobs[0].job_id


class _Clients:
    """Stubs of the services, until the end of the block."""

    def __init__(self, endpoints: dict[str, str], token: str) -> None:
        self._channels = {
            name: grpc.aio.insecure_channel(where, options=[("grpc.enable_http_proxy", 0)])
            for name, where in endpoints.items()
        }
        self.auth = _bearer(token)
        self.jobs = JobServiceStub(self._channels["scheduler"])
        self.quota = QuotaServiceStub(self._channels["quota"])
        self.log = EventLogServiceStub(self._channels["eventlog"])

    async def __aenter__(self) -> "_Clients":
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels.values():
            await channel.close()


async def _summary(clients: _Clients, job_id: str) -> None:
    """What happened, told from the log. Raises DemoFailed where something does not hold."""
    got = await clients.jobs.GetJob(
        job_pb2.GetJobRequest(job_id=job_id), metadata=clients.auth, timeout=_CALL_TIMEOUT_S
    )
    job = got.job
    head = await clients.log.GetHead(eventlog_pb2.GetHeadRequest(), metadata=clients.auth, timeout=_CALL_TIMEOUT_S)
    events = Table(title="What the event log says", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("position", "event", ""):
        events.add_column(column, justify="right" if column == "position" else "left")
    request = eventlog_pb2.ReadEventsRequest(filter=eventlog_pb2.EventFilter(stream_kind="job", stream_id=job_id))
    async for page in clients.log.ReadEvents(request, metadata=clients.auth, timeout=_CALL_TIMEOUT_S):
        for record in page.events:
            events.add_row(str(record.position), record.type, sentence(record))
    console.print()
    console.print(events)
    console.print("\n[bold]Checkpoints[/bold]")
    for checkpoint in job.checkpoints:
        best = "  (best)" if checkpoint.best else ""
        console.print(
            f"  step {checkpoint.step:>5}  {checkpoint.bytes / 1e6:.1f} MB  {checkpoint.path}{best}", soft_wrap=True
        )
    charged = await clients.quota.ListCharges(
        quota_pb2.ListChargesRequest(job_id=job_id, min_position=head.position),
        metadata=clients.auth,
        timeout=_CALL_TIMEOUT_S,
    )
    verified = await clients.quota.VerifyUsage(
        quota_pb2.VerifyUsageRequest(job_id=job_id, min_position=head.position),
        metadata=clients.auth,
        timeout=_CALL_TIMEOUT_S,
    )
    charge = charged.charges[0].milliminutes if charged.charges else -1
    accuracy = job.metrics.get("validation/accuracy", 0.0)
    seconds = (job.interval.charged_until_ms - job.interval.started_at_ms) / 1000
    console.print("\n[bold]Result[/bold]")
    console.print(f"  accuracy            {accuracy:.4f} on images it had not seen (at least {ACCURACY} expected)")
    console.print(
        f"  trained             {seconds:.2f} s × {job.rate_micros / 1e6:g} minutes a minute ({GPUS}, simulated)"
    )
    console.print(f"  minutes charged     {charge / 1000:.3f}")
    console.print(
        f"  minutes recomputed  {verified.replayed_milliminutes / 1000:.3f} "
        f"by replaying {verified.events_replayed} events of the log"
    )
    if job.state != job_pb2.JOB_STATE_FINISHED:
        raise DemoFailed(f"the training is {job_pb2.JobState.Name(job.state)}: {job.message}")
    if accuracy < ACCURACY:
        raise DemoFailed(f"the accuracy is {accuracy:.4f}, below {ACCURACY}")
    if not verified.equal or verified.replayed_milliminutes != charge:
        raise DemoFailed("the minutes recomputed from the log are not the minutes charged")
    if not job.checkpoints or not all(Path(checkpoint.path).is_file() for checkpoint in job.checkpoints):
        raise DemoFailed("a checkpoint is not where the log says that it is")


async def _run(
    command: Sequence[str], state: Path | None, home: Path, env: dict[str, str] | None = None, *, quiet: bool = False
) -> None:
    """Show a command, run it, and show what it says. Raises DemoFailed unless it succeeds."""
    if not quiet:
        console.print(f"[dim]$ {_shown(Path(command[0]).name)} {shlex.join(command[1:])}[/dim]", soft_wrap=True)
    more = {"TETHER_HOME": str(home), **(env or {})}
    if state is not None:
        more["TETHER_RUNNER_STATE"] = str(state)
    output = asyncio.subprocess.DEVNULL if quiet else None
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **more}, stdout=output)
    try:
        code = await process.wait()
    except BaseException:
        process.terminate()
        await process.wait()
        raise
    if code:
        raise DemoFailed(f"`{Path(command[0]).name} {command[1]}` ended with exit code {code}")


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _shown(program: str) -> str:
    """How a person in this folder types the program."""
    path = _BIN / program
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else program


def _say(line: str) -> None:
    console.print(f"[dim]{line}[/dim]")


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(keep="--keep" in sys.argv[1:])))
    except KeyboardInterrupt:
        sys.exit(130)
