"""WorkflowService: saved workflows."""

from collections.abc import Mapping, Sequence

import grpc

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.workspace_pb2 import WorkflowCreated, WorkflowDeleted, WorkflowRevised
from protos.scheduler.v1 import workflow_pb2 as pb
from protos.scheduler.v1 import workflow_pb2_grpc as pb_grpc
from protos.training.v1.training_pb2 import Architecture, CheckpointReference, Workflow
from services.eventlog.append import StreamAppend
from services.eventlog.catalogue import payload_of
from services.ids import new_id
from services.rpc.errors import InvalidField, checked_name
from services.rpc.kernel import Kernel
from services.rpc.shell import caller
from services.scheduler.checks import check_workflow
from services.scheduler.commands import Commands, Decision
from services.scheduler.domain import workflow as workflows
from services.scheduler.domain.workspace import Workspace, evolve
from services.scheduler.making import architecture_of, dataset_of, weights_of, workflow_of, workspace_of
from services.scheduler.store import Store, envelope_of
from services.scheduler.views import workflow_view


class WorkflowRpcs(pb_grpc.WorkflowServiceServicer):
    def __init__(
        self, kernel: Kernel, commands: Commands, store: Store, architectures: Mapping[str, Architecture]
    ) -> None:
        self._kernel, self._commands, self._store = kernel, commands, store
        self._architectures = architectures

    async def CreateWorkflow(
        self,
        request: pb.CreateWorkflowRequest,
        context: "grpc.aio.ServicerContext[pb.CreateWorkflowRequest, pb.CreateWorkflowResponse]",
    ) -> pb.CreateWorkflowResponse:
        for field in ("workflow_id", "revision"):
            if value := getattr(request.workflow, field):
                rule = "the platform says that of a new workflow; leave it out, or revise the one that you mean"
                raise InvalidField(f"workflow.{field}", value, rule)
        workflow_id = new_id("wf")
        before: Workspace | None = None

        async def decide() -> Decision:
            nonlocal before
            before = await workspace_of(self._store)
            wanted = await self._checked(before, request.workflow)
            return _append(before, workflows.create(before.workflows, wanted, workflow_id))

        def respond(records: Sequence[EventRecord]) -> pb.CreateWorkflowResponse:
            return pb.CreateWorkflowResponse(workflow=_after(before, records[-1]), position=records[-1].position)

        answer, _ = await self._commands.answer(request, request.request_id, pb.CreateWorkflowResponse, decide, respond)
        return answer

    async def ReviseWorkflow(
        self,
        request: pb.ReviseWorkflowRequest,
        context: "grpc.aio.ServicerContext[pb.ReviseWorkflowRequest, pb.ReviseWorkflowResponse]",
    ) -> pb.ReviseWorkflowResponse:
        before: Workspace | None = None

        async def decide() -> Decision:
            nonlocal before
            before = await workspace_of(self._store)
            known = workflow_of(before, request.workflow.workflow_id).workflow
            wanted = await self._checked(before, request.workflow)
            return _append(before, workflows.revise(before.workflows, known, wanted))

        def respond(records: Sequence[EventRecord]) -> pb.ReviseWorkflowResponse:
            return pb.ReviseWorkflowResponse(workflow=_after(before, records[-1]), position=records[-1].position)

        answer, _ = await self._commands.answer(request, request.request_id, pb.ReviseWorkflowResponse, decide, respond)
        return answer

    async def DeleteWorkflow(
        self,
        request: pb.DeleteWorkflowRequest,
        context: "grpc.aio.ServicerContext[pb.DeleteWorkflowRequest, pb.DeleteWorkflowResponse]",
    ) -> pb.DeleteWorkflowResponse:
        async def decide() -> Decision:
            workspace = await workspace_of(self._store)
            known = workflow_of(workspace, request.workflow_id).workflow
            return _append(workspace, WorkflowDeleted(workflow_id=known.workflow_id))

        def respond(records: Sequence[EventRecord]) -> pb.DeleteWorkflowResponse:
            return pb.DeleteWorkflowResponse(position=records[-1].position)

        answer, _ = await self._commands.answer(request, request.request_id, pb.DeleteWorkflowResponse, decide, respond)
        return answer

    async def GetWorkflow(
        self,
        request: pb.GetWorkflowRequest,
        context: "grpc.aio.ServicerContext[pb.GetWorkflowRequest, pb.GetWorkflowResponse]",
    ) -> pb.GetWorkflowResponse:
        await self._kernel.reached(request.min_position)
        workspace = await self._store.workspace(caller().workspace_id)
        saved = workflow_of(workspace, request.workflow_id)
        assert workspace is not None  # something was found in it
        return pb.GetWorkflowResponse(workflow=workflow_view(saved, workspace))

    async def ListWorkflows(
        self,
        request: pb.ListWorkflowsRequest,
        context: "grpc.aio.ServicerContext[pb.ListWorkflowsRequest, pb.ListWorkflowsResponse]",
    ) -> pb.ListWorkflowsResponse:
        await self._kernel.reached(request.min_position)
        workspace = await self._store.workspace(caller().workspace_id)
        if workspace is None:
            return pb.ListWorkflowsResponse()
        by_name = sorted(workspace.workflows.values(), key=lambda saved: saved.workflow.name)
        return pb.ListWorkflowsResponse(workflows=[workflow_view(saved, workspace) for saved in by_name])

    async def _checked(self, workspace: Workspace, given: Workflow) -> Workflow:
        """What is saved of a request, as one that SubmitJob would take. Raises InvalidField, NotFound."""
        dataset = dataset_of(workspace, given.dataset_id)
        architecture = architecture_of(self._architectures, given.architecture_id)
        try:
            checked_name("name", given.name)
            check_workflow(given, dataset, architecture, self._architectures)
            await weights_of(self._store, given.weights, architecture)
        except InvalidField as refused:
            raise refused.below("workflow") from None
        wanted = Workflow()
        wanted.CopyFrom(given)
        wanted.dataset_id = dataset.dataset_id
        if (checkpoint := given.weights.checkpoint).job_id:
            # Where it lies is found when a training is submitted: it may be elsewhere by then.
            wanted.weights.checkpoint.CopyFrom(CheckpointReference(job_id=checkpoint.job_id, name=checkpoint.name))
        # What a client of another version says beyond this one is not kept: nobody has checked it.
        wanted.DiscardUnknownFields()
        return wanted


def _append(workspace: Workspace, event: WorkflowCreated | WorkflowRevised | WorkflowDeleted) -> Decision:
    # The version is expected: of two with the same name, or the same revision, one must not get through.
    stream = StreamAppend("workspace", workspace.workspace_id, workspace.version, [event])
    return Decision(workspace.workspace_id, [stream])


def _after(before: Workspace | None, record: EventRecord) -> pb.SavedWorkflow:
    """The workflow as the event leaves it."""
    event = payload_of(record)
    assert isinstance(event, WorkflowCreated | WorkflowRevised)
    workspace = evolve(before, event, envelope_of(record))
    return workflow_view(workspace.workflows[event.workflow.workflow_id], workspace)
