"""What a training is made of: taken from a submission or a saved workflow, found in workspace and catalogue."""

from collections.abc import Mapping

from protos.scheduler.v1.job_pb2 import SubmitJobRequest
from protos.training.v1.training_pb2 import Architecture, Dataset, InitialWeights, Workflow
from services.rpc.errors import InvalidField, NotFound
from services.rpc.shell import caller
from services.scheduler.checks import check_family
from services.scheduler.domain import workflow as workflows
from services.scheduler.domain.job import Job
from services.scheduler.domain.workflow import Saved
from services.scheduler.domain.workspace import Workspace
from services.scheduler.store import Store


def made_of(request: SubmitJobRequest, workspace: Workspace) -> Workflow:
    """The saved workflow that the request names, or else one without a name of what the request says itself.

    Raises NotFound, and InvalidField where it says both.
    """
    if not request.workflow_id:
        return Workflow(
            dataset_id=request.dataset_id,
            architecture_id=request.architecture_id,
            hyperparameters=request.hyperparameters,
            augmentations=request.augmentations if request.HasField("augmentations") else None,
            weights=request.weights,
        )
    for field, value in (
        ("dataset_id", request.dataset_id),
        ("architecture_id", request.architecture_id),
        ("hyperparameters", "set" if request.hyperparameters.ByteSize() else ""),
        ("augmentations", "set" if request.HasField("augmentations") else ""),
        ("weights", "set" if request.weights.ByteSize() else ""),
    ):
        if value:
            raise InvalidField(field, value, "the workflow of workflow_id says that; leave out one of the two")
    return workflow_of(workspace, request.workflow_id).workflow


async def workspace_of(store: Store) -> Workspace:
    """The caller's. Raises NotFound where he has none, as the operator."""
    workspace = await store.workspace(caller().workspace_id)
    if workspace is None:
        raise NotFound("workspace", caller().workspace_id)
    return workspace


def workflow_of(workspace: Workspace | None, name_or_id: str) -> Saved:
    """Raises NotFound."""
    found = workflows.find(workspace.workflows, name_or_id) if workspace is not None else None
    if found is None:
        raise NotFound("workflow", name_or_id, "see `tether workflows list`")
    return found


def dataset_of(workspace: Workspace | None, name_or_id: str) -> Dataset:
    """Raises NotFound."""
    found = workspace.dataset(name_or_id) if workspace is not None else None
    if found is None:
        raise NotFound("dataset", name_or_id, "see `tether datasets list`")
    return found


def architecture_of(architectures: Mapping[str, Architecture], architecture_id: str) -> Architecture:
    """Raises NotFound."""
    found = architectures.get(architecture_id)
    if found is None:
        hint = f"there are {', '.join(architectures)}; see `tether train architectures`"
        raise NotFound("architecture", architecture_id, hint)
    return found


async def job_of(store: Store, job_id: str) -> Job:
    """A job of the caller's workspace. Raises NotFound, for another workspace's as well."""
    job = await store.job(job_id)
    workspace_id = caller().workspace_id
    if job is None or (workspace_id and job.workspace_id != workspace_id):
        raise NotFound("job", job_id, "see `tether jobs list`")
    return job


async def weights_of(store: Store, weights: InitialWeights, architecture: Architecture) -> Job | None:
    """The job of whose checkpoint the weights are; None: they come from elsewhere. Raises NotFound, InvalidField."""
    if not weights.checkpoint.job_id:
        return None
    earlier = await job_of(store, weights.checkpoint.job_id)
    check_family(earlier.job_id, earlier.spec.architecture, architecture)
    return earlier
