"""Event log and scheduler with one workspace, for component tests."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from protos.scheduler.v1 import access_pb2, job_pb2, runner_pb2, workflow_pb2
from protos.scheduler.v1.access_pb2_grpc import AccessServiceStub
from protos.scheduler.v1.job_pb2_grpc import JobServiceStub
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from protos.scheduler.v1.workflow_pb2_grpc import WorkflowServiceStub
from protos.training.v1.training_pb2 import Workflow
from services.eventlog import bootstrap as eventlog
from services.scheduler import bootstrap as scheduler
from tests.support.box import Box
from tests.support.platform import DatabaseUrls
from tests.support.servers import OPERATOR_TOKEN, bearer, eventlog_settings, running, scheduler_settings


class Control:
    """Stubs of the scheduler, a workspace and its admin's token."""

    def __init__(self, channel: grpc.aio.Channel, eventlog_address: str) -> None:
        self.channel, self.eventlog_address = channel, eventlog_address
        self.address = ""
        self.access, self.runners = AccessServiceStub(channel), RunnerServiceStub(channel)
        self.jobs, self.workflows = JobServiceStub(channel), WorkflowServiceStub(channel)
        self.token = ""
        self.workspace_id = ""

    @property
    def auth(self) -> tuple[tuple[str, str], ...]:
        return bearer(self.token)

    async def create_workspace(self, name: str) -> access_pb2.CreateWorkspaceResponse:
        request = access_pb2.CreateWorkspaceRequest(request_id=str(uuid.uuid4()), name=name)
        return await self.access.CreateWorkspace(request, metadata=bearer(OPERATOR_TOKEN))

    async def sign_in_code(self, token: str = "") -> str:
        request = access_pb2.CreateSignInCodeRequest(request_id=str(uuid.uuid4()))
        return (await self.access.CreateSignInCode(request, metadata=bearer(token or self.token))).code

    async def sign_in(self, code: str) -> access_pb2.SignInResponse:
        """Without a token."""
        return await self.access.SignIn(access_pb2.SignInRequest(code=code))

    async def create_runner(self, name: str = "box", **more: Any) -> runner_pb2.CreateRunnerResponse:
        return await self.runners.CreateRunner(runner_pb2.CreateRunnerRequest(name=name, **more), metadata=self.auth)

    async def box(self, name: str = "box") -> tuple[str, Box]:
        """A new runner's id and its box, not yet connected."""
        created = await self.create_runner(name)
        return created.runner.runner_id, Box(self.channel, created.secret_key)

    async def dataset(self, name: str = "digits") -> str:
        request = workflow_pb2.RegisterDatasetRequest(name=name, location="/data/digits")
        return (await self.workflows.RegisterDataset(request, metadata=self.auth)).dataset.dataset_id

    async def workflow(self, name: str = "small", **more: Any) -> str:
        wanted = Workflow(**{"name": name, "dataset_id": "digits", "architecture_id": "resnet-tiny", **more})
        request = workflow_pb2.CreateWorkflowRequest(workflow=wanted)
        return (await self.workflows.CreateWorkflow(request, metadata=self.auth)).workflow.workflow.workflow_id

    async def submit(self, runner: str = "box", **more: Any) -> job_pb2.Job:
        request = job_pb2.SubmitJobRequest(
            **{"dataset_id": "digits", "architecture_id": "resnet-tiny", "runner_id": runner, **more}
        )
        return (await self.jobs.SubmitJob(request, metadata=self.auth)).job

    async def job(self, job_id: str) -> job_pb2.Job:
        return (await self.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=self.auth)).job

    async def runner(self, name: str = "box") -> runner_pb2.Runner:
        request = runner_pb2.GetRunnerRequest(runner_id=name)
        return (await self.runners.GetRunner(request, metadata=self.auth)).runner


@asynccontextmanager
async def control_plane(database: DatabaseUrls, nats_url: str = "", **settings: Any) -> AsyncIterator[Control]:
    """Event log and scheduler as real servers in this process, with the workspace `test`."""
    async with (
        running(eventlog.serve, eventlog_settings(database.eventlog, nats_url)) as eventlog_address,
        running(scheduler.serve, scheduler_settings(database.scheduler, nats_url, **settings)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        control = Control(channel, eventlog_address)
        control.address = address
        created = await control.create_workspace("test")
        control.token, control.workspace_id = created.secret, created.workspace_id
        yield control
