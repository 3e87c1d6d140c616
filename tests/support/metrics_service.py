"""A metrics service on a real socket with its own database, and jobs that the log knows."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import Message

from protos.events.v1.job_pb2 import JobAssigned, JobSubmitted
from protos.events.v1.runner_pb2 import RunnerRegistered
from protos.events.v1.workspace_pb2 import ROLE_VIEWER, TokenCreated
from protos.metrics.v1 import ingest_pb2, metrics_pb2
from protos.metrics.v1.artifact_pb2_grpc import ArtifactServiceStub
from protos.metrics.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.metrics.v1.ingest_pb2_grpc import IngestServiceStub
from protos.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from services.clock import PlatformClock
from services.eventlog.append import Append, StreamAppend
from services.eventlog.appender import Appender
from services.eventlog.bootstrap import MIGRATIONS as LOG_MIGRATIONS
from services.eventlog.bootstrap import Settings as LogSettings
from services.ids import sha256
from services.metrics.bootstrap import MIGRATIONS, Service, Settings
from services.rpc.kernel import open_kernel
from tests.support.eventually import eventually
from tests.support.platform import DatabaseUrls

if TYPE_CHECKING:
    from protos.metrics.v1.artifact_pb2_grpc import ArtifactServiceAsyncStub
    from protos.metrics.v1.evaluation_pb2_grpc import EvaluationServiceAsyncStub
    from protos.metrics.v1.ingest_pb2_grpc import IngestServiceAsyncStub
    from protos.metrics.v1.metrics_pb2_grpc import MetricsServiceAsyncStub

WORKSPACE, OTHER = "ws_one", "ws_other"
TOKEN, OTHER_TOKEN = "tt_of_one", "tt_of_other"
KEY, OTHER_KEY = "tk_of_one", "tk_of_other"
RUNNER, OTHER_RUNNER = "rn_one", "rn_other"
JOB, ATTEMPT = "jb_one", "at_one"


class Log:
    """Appends what the scheduler would."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender

    async def append(self, workspace_id: str, kind: str, stream_id: str, *events: Message) -> int:
        stream = StreamAppend(kind, stream_id, None, events)
        return (await self._appender.append(Append(workspace_id, [stream], "test"))).position

    async def people(self) -> None:
        """Two workspaces with a viewer and a runner each."""
        for workspace, token, runner, key in (
            (WORKSPACE, TOKEN, RUNNER, KEY),
            (OTHER, OTHER_TOKEN, OTHER_RUNNER, OTHER_KEY),
        ):
            created = TokenCreated(token_id=f"of_{workspace}", role=ROLE_VIEWER, token_sha256=sha256(token))
            await self.append(workspace, "workspace", workspace, created)
            await self.append(workspace, "runner", runner, RunnerRegistered(name=runner, key_sha256=sha256(key)))

    async def job(
        self,
        job_id: str,
        *attempt_ids: str,
        workspace_id: str = WORKSPACE,
        runner_id: str = RUNNER,
        advanced: bool = False,
    ) -> None:
        events = [JobAssigned(attempt_id=attempt_id, runner_id=runner_id) for attempt_id in attempt_ids]
        submitted = JobSubmitted(name=job_id)
        submitted.spec.advanced_evaluation.enabled = advanced
        await self.append(workspace_id, "job", job_id, submitted, *events)

    async def attempt(self, job_id: str, attempt_id: str) -> None:
        await self.append(WORKSPACE, "job", job_id, JobAssigned(attempt_id=attempt_id, runner_id=RUNNER))


@asynccontextmanager
async def log_of(database: DatabaseUrls) -> AsyncIterator[Log]:
    """The event log's tables, and somebody who appends."""
    eventlog = await open_kernel(LogSettings(postgres_url=database.eventlog), "eventlog", LOG_MIGRATIONS)
    await eventlog.close()
    appender = Appender(database.scheduler, "scheduler", PlatformClock())
    appender.start()
    try:
        yield Log(appender)
    finally:
        await appender.stop()


@asynccontextmanager
async def log_of_one_job(database: DatabaseUrls) -> AsyncIterator[Log]:
    """Two workspaces, and in the first one JOB with ATTEMPT."""
    async with log_of(database) as log:
        await log.people()
        await log.job(JOB, ATTEMPT)
        yield log


def metadata(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


@dataclass
class Metrics:
    """Stubs of one running service."""

    port: int
    channel: grpc.aio.Channel
    ingest: "IngestServiceAsyncStub" = field(init=False)
    metrics: "MetricsServiceAsyncStub" = field(init=False)
    evaluations: "EvaluationServiceAsyncStub" = field(init=False)
    artifacts: "ArtifactServiceAsyncStub" = field(init=False)

    def __post_init__(self) -> None:
        self.ingest = IngestServiceStub(self.channel)
        self.metrics = MetricsServiceStub(self.channel)
        self.evaluations = EvaluationServiceStub(self.channel)
        self.artifacts = ArtifactServiceStub(self.channel)

    async def report(
        self, *requests: ingest_pb2.ReportRequest, key: str = KEY, timeout_s: float = 20
    ) -> list[ingest_pb2.ReportResponse]:
        """All answers of one stream."""
        call = self.ingest.Report(iter(requests), metadata=metadata(key), timeout=timeout_s)
        return [response async for response in call]

    async def points(
        self, job_id: str = JOB, names: Sequence[str] = (), max_points: int = 100_000
    ) -> dict[str, list[tuple[int, float]]]:
        """Series as (step, value)."""
        request = metrics_pb2.QueryMetricsRequest(job_id=job_id, names=names, max_points=max_points)
        response = await self.metrics.QueryMetrics(request, metadata=metadata(TOKEN), timeout=20)
        return {series.name: list(zip(series.steps, series.values, strict=True)) for series in response.series}

    async def lines(self, from_line: int = 0, max_lines: int = 0, tail: int = 0) -> list[metrics_pb2.StoredLogLine]:
        call = self.metrics.ReadLogs(
            metrics_pb2.ReadLogsRequest(job_id=JOB, from_line=from_line, max_lines=max_lines, tail=tail),
            metadata=metadata(TOKEN),
            timeout=20,
        )
        return [line async for response in call for line in response.lines]


@asynccontextmanager
async def serving(database: DatabaseUrls, nats_url: str = "", **settings: int | str) -> AsyncIterator[Metrics]:
    """One replica of the service."""
    chosen = Settings(postgres_url=database.metrics, nats_url=nats_url, **settings)  # type: ignore[arg-type]
    service = Service(chosen, await open_kernel(chosen, "metrics", MIGRATIONS))
    stopping = asyncio.Event()
    running = asyncio.create_task(service.run(stopping))
    try:
        await eventually(lambda: service.server.port or running.done(), what="the service's port")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.server.port}") as channel:
            yield Metrics(service.server.port, channel)
    finally:
        stopping.set()
        await running


def batch(
    first_sequence: int,
    records: Iterable[ingest_pb2.Record],
    spool: str = "trainer",
    attempt_id: str = ATTEMPT,
    job_id: str = JOB,
) -> ingest_pb2.ReportRequest:
    return ingest_pb2.ReportRequest(
        attempt_id=attempt_id, job_id=job_id, spool=spool, first_sequence=first_sequence, records=records
    )


def point(step: int, **values: float) -> ingest_pb2.Record:
    return ingest_pb2.Record(at_ms=1_000_000 + step, points=ingest_pb2.Points(step=step, values=values))


def line(text: str, error: bool = False) -> ingest_pb2.Record:
    return ingest_pb2.Record(at_ms=1_000_000, log_line=ingest_pb2.LogLine(text=text, error=error))


@asynccontextmanager
async def metrics_process(
    database: DatabaseUrls, port: int, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service as a process of its own; killed at the end unless it is gone."""
    own = {"TETHER_POSTGRES_URL": database.metrics, "TETHER_LISTEN": f"127.0.0.1:{port}"}
    environment = {**os.environ, **own, **{f"TETHER_{name.upper()}": value for name, value in settings.items()}}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.metrics", env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
