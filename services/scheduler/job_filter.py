"""Which jobs a ListJobsRequest asks for, checked, with names of things made into their ids."""

import re

from protos.scheduler.v1.job_pb2 import JobState, ListJobsRequest
from services.rpc.errors import MAX_NAME, InvalidField, NotFound
from services.rpc.shell import caller
from services.scheduler.job_lists import Wanted
from services.scheduler.making import dataset_of, workflow_of
from services.scheduler.queries import Queries
from services.scheduler.store import Store

_ID = r"_[a-z2-7]{16}"


async def wanted(request: ListJobsRequest, store: Store, queries: Queries) -> Wanted:
    """Things may be named by id or name; an id also where the thing is gone. Raises InvalidField, NotFound."""
    if len(request.search) > MAX_NAME:
        raise InvalidField("search", request.search, f"it has at most {MAX_NAME} characters, as names have")
    if unknown := set(request.states) - set(JobState.values()):
        raise InvalidField("states", min(unknown), "it must be a state of a job")
    if request.submitted_by and not request.submitted_by.startswith("token:"):
        raise InvalidField("submitted_by", request.submitted_by, "it must be token:<id>, as in a job's submitted_by")
    runner_id, dataset_id, workflow_id = request.runner_id, request.dataset_id, request.workflow_id
    if runner_id:
        known = await queries.runner_id(caller().workspace_id, runner_id)
        if not known and not _is_id("rn", runner_id):
            raise NotFound("runner", runner_id, "see `tether runners list`")
        runner_id = known or runner_id
    workspace = await store.workspace(caller().workspace_id) if dataset_id or workflow_id else None
    if dataset_id:
        try:
            dataset_id = dataset_of(workspace, dataset_id).dataset_id
        except NotFound:
            if not _is_id("ds", dataset_id):
                raise
    if workflow_id:
        try:
            workflow_id = workflow_of(workspace, workflow_id).workflow.workflow_id
        except NotFound:
            if not _is_id("wf", workflow_id):
                raise
    return Wanted(
        states=request.states,
        search=request.search.strip(),
        runner_id=runner_id,
        dataset_id=dataset_id,
        architecture_id=request.architecture_id,
        workflow_id=workflow_id,
        submitted_by=request.submitted_by,
    )


def _is_id(prefix: str, text: str) -> bool:
    return re.fullmatch(prefix + _ID, text) is not None
