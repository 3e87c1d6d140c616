"""A platform with more on it than anyone looks at: what lists are made for."""

import asyncio
import itertools
from typing import Any

import grpc

from protos.scheduler.v1 import job_pb2, runner_pb2, workflow_pb2
from protos.scheduler.v1.job_pb2_grpc import JobServiceStub
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from protos.scheduler.v1.workflow_pb2_grpc import WorkflowServiceStub
from tests.support.servers import bearer

RUNNERS, JOBS = 1_000, 10_000
# Trainings that are not over: a page holds these, and asks for the others.
_WAITING = 100
_IN_FLIGHT = 200
_TIMEOUT_S = 60


async def fill(scheduler: str, token: str, runners: int = RUNNERS, jobs: int = JOBS) -> None:
    """Runners `box-0`, `box-1`, … that never connect, and trainings for them, most of them stopped in the queue."""
    room, auth = asyncio.Semaphore(_IN_FLIGHT), bearer(token)

    async def call(method: Any, request: Any) -> Any:
        async with room:
            return await method(request, metadata=auth, timeout=_TIMEOUT_S)

    async with grpc.aio.insecure_channel(scheduler) as channel:
        boxes, trainings = RunnerServiceStub(channel), JobServiceStub(channel)
        created = await asyncio.gather(
            *(call(boxes.CreateRunner, runner_pb2.CreateRunnerRequest(name=f"box-{n}")) for n in range(runners))
        )
        ids = [answer.runner.runner_id for answer in created]
        dataset = workflow_pb2.RegisterDatasetRequest(name="many", location="/many")
        await call(WorkflowServiceStub(channel).RegisterDataset, dataset)

        async def training(number: int, runner_id: str) -> None:
            submit = job_pb2.SubmitJobRequest(
                name=f"training {number}",
                dataset_id="many",
                architecture_id="resnet-tiny",
                runner_id=runner_id,
                queue=True,
            )
            job = (await call(trainings.SubmitJob, submit)).job
            if number >= _WAITING:
                await call(trainings.StopJob, job_pb2.StopJobRequest(job_id=job.job_id))

        await asyncio.gather(*map(training, range(jobs), itertools.cycle(ids)))
