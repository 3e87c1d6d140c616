"""The whole platform with one real box, and its clients, for end-to-end tests."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from protos.eventlog.v1 import eventlog_pb2
from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub
from protos.metrics.v1 import metrics_pb2
from protos.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from protos.quota.v1 import quota_pb2
from protos.quota.v1.quota_pb2_grpc import QuotaServiceStub
from protos.scheduler.v1 import job_pb2, runner_pb2, workflow_pb2
from protos.scheduler.v1.job_pb2_grpc import JobServiceStub
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from protos.scheduler.v1.workflow_pb2_grpc import WorkflowServiceStub
from tests.support.box_process import BoxProcess
from tests.support.eventually import eventually
from tests.support.platform import SharedPlatform
from tests.support.servers import bearer

OVER = (job_pb2.JOB_STATE_FINISHED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_KILLED)
# The scheduler is back within seconds; a call waits for it instead of failing.
PATIENCE_S = 30


class Stack:
    def __init__(
        self, platform: SharedPlatform, folder: Path, channels: dict[str, grpc.aio.Channel], runner: str
    ) -> None:
        self.platform, self.folder = platform, folder
        self.auth, self.runner = bearer(platform.token), runner
        self.jobs, self.runners = JobServiceStub(channels["scheduler"]), RunnerServiceStub(channels["scheduler"])
        self.workflows = WorkflowServiceStub(channels["scheduler"])
        self.quota, self.metrics = QuotaServiceStub(channels["quota"]), MetricsServiceStub(channels["metrics"])
        self.log = EventLogServiceStub(channels["eventlog"])
        self.box = BoxProcess(folder / "box")

    async def call(self, method: Any, request: Any) -> Any:
        """A unary call that waits for a server that is coming back."""
        return await method(request, metadata=self.auth, timeout=PATIENCE_S, wait_for_ready=True)

    async def prepare(self) -> None:
        """A runner that is online with a warm trainer, and the digits as a dataset."""
        created = await self.call(self.runners.CreateRunner, runner_pb2.CreateRunnerRequest(name=self.runner))
        await self.box.install(self.platform.endpoints["scheduler"], created.secret_key)
        await self.box.command("sample", "digits", str(self.folder / "digits"))
        await self.box.start()
        request = workflow_pb2.RegisterDatasetRequest(
            name=f"digits of {self.runner}", location=str(self.folder / "digits")
        )
        await self.call(self.workflows.RegisterDataset, request)

        async def warm() -> bool:
            status = await self.box.status()
            return bool(status["connected"] and status["warm"])

        await eventually(warm, 60, "a warm trainer on a connected runner")

    async def submit(self, **more: Any) -> job_pb2.Job:
        request = job_pb2.SubmitJobRequest(
            **{
                "dataset_id": f"digits of {self.runner}",
                "architecture_id": "resnet-tiny",
                "runner_id": self.runner,
                **more,
            }
        )
        answer: job_pb2.SubmitJobResponse = await self.call(self.jobs.SubmitJob, request)
        return answer.job

    async def job(self, job_id: str) -> job_pb2.Job:
        answer: job_pb2.GetJobResponse = await self.call(self.jobs.GetJob, job_pb2.GetJobRequest(job_id=job_id))
        return answer.job

    async def running(self, job_id: str) -> bool:
        return (await self.job(job_id)).state == job_pb2.JOB_STATE_RUNNING

    async def over(self, job_id: str, timeout_s: float = 120) -> job_pb2.Job:
        """The job once it is over."""

        async def look() -> job_pb2.Job | None:
            job = await self.job(job_id)
            return job if job.state in OVER else None

        job = await eventually(look, timeout_s, f"the end of {job_id}")
        assert job is not None
        return job

    async def events(self, **wanted: Any) -> list[EventRecord]:
        """Events that match a filter, in order."""
        request = eventlog_pb2.ReadEventsRequest(filter=eventlog_pb2.EventFilter(**wanted))
        pages = self.log.ReadEvents(request, metadata=self.auth, timeout=PATIENCE_S, wait_for_ready=True)
        return [record async for page in pages for record in page.events]

    async def head(self) -> int:
        answer: eventlog_pb2.GetHeadResponse = await self.call(self.log.GetHead, eventlog_pb2.GetHeadRequest())
        return answer.position

    async def lines(self, job_id: str) -> list[metrics_pb2.StoredLogLine]:
        """All log lines of a job."""
        pages = self.metrics.ReadLogs(metrics_pb2.ReadLogsRequest(job_id=job_id), metadata=self.auth)
        return [line async for page in pages for line in page.lines]

    async def series(self, job_id: str, name: str) -> metrics_pb2.Series:
        """Every point of a series."""
        request = metrics_pb2.QueryMetricsRequest(job_id=job_id, names=[name], max_points=100_000)
        answer: metrics_pb2.QueryMetricsResponse = await self.call(self.metrics.QueryMetrics, request)
        return answer.series[0] if answer.series else metrics_pb2.Series(name=name)

    async def charge(self, job_id: str) -> quota_pb2.Charge:
        request = quota_pb2.ListChargesRequest(job_id=job_id, min_position=await self.head())
        answer: quota_pb2.ListChargesResponse = await self.call(self.quota.ListCharges, request)
        return answer.charges[0]

    async def verified(self) -> quota_pb2.VerifyUsageResponse:
        request = quota_pb2.VerifyUsageRequest(min_position=await self.head())
        answer: quota_pb2.VerifyUsageResponse = await self.call(self.quota.VerifyUsage, request)
        return answer

    def spool(self, attempt_id: str, name: str) -> list[dict[str, Any]]:
        """What the box has written, as long as it keeps it."""
        file = self.box.state / "attempts" / attempt_id / "spool" / f"{name}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]


@asynccontextmanager
async def stack_on(platform: SharedPlatform, folder: Path, runner: str = "box") -> AsyncIterator[Stack]:
    """A prepared stack; its box is stopped at the end."""
    options = [(f"grpc.{bound}_reconnect_backoff_ms", 200) for bound in ("initial", "min", "max")]
    channels = {name: grpc.aio.insecure_channel(where, options=options) for name, where in platform.endpoints.items()}
    stack = Stack(platform, folder, channels, runner)
    try:
        await stack.prepare()
        yield stack
    finally:
        await stack.box.stop()
        for channel in channels.values():
            await channel.close()
