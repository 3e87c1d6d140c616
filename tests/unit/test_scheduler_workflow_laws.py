"""Saved workflows: names and revisions, and what a submission takes from one. Given events, when, then."""

from typing import Any

import pytest
from google.protobuf.message import Message

from protos.common.v1 import errors_pb2
from protos.events.v1 import workspace_pb2 as ev
from protos.scheduler.v1.job_pb2 import SubmitJobRequest
from protos.training.v1.training_pb2 import (
    Augmentations,
    Hyperparameters,
    InitialWeights,
    WeightsSource,
    Workflow,
)
from services.rpc.errors import InvalidField, NotFound
from services.scheduler.domain import workflow as workflows
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.refusals import TooManyWorkflows, WorkflowNameTaken, WorkflowRevisedMeanwhile
from services.scheduler.domain.workspace import Workspace, evolve
from services.scheduler.making import made_of
from services.scheduler.serde import dump, load
from tests.support.given import T0

RANDOM = InitialWeights(source=WeightsSource.WEIGHTS_SOURCE_RANDOM)


def workflow(name: str = "small", workflow_id: str = "wf_1", revision: int = 1, **more: Any) -> Workflow:
    return Workflow(workflow_id=workflow_id, name=name, revision=revision, **more)


def created(name: str = "small", workflow_id: str = "wf_1") -> ev.WorkflowCreated:
    return ev.WorkflowCreated(workflow=workflow(name, workflow_id))


def revised(name: str = "small", revision: int = 2, **more: Any) -> ev.WorkflowRevised:
    return ev.WorkflowRevised(workflow=workflow(name, revision=revision, **more))


def given(*events: Message) -> Workspace:
    """A workspace after events, a second apart, the n-th by `token:n`."""
    state: Workspace | None = None
    for version, event in enumerate((ev.WorkspaceCreated(name="ours"), *events), 1):
        state = evolve(
            state, event, Envelope("ws_1", "ws_1", version, T0 + version * 1000, f"token:{version}", version)
        )
    assert state is not None
    return state


def test_a_workflow_is_its_newest_revision_and_remembers_its_first_day() -> None:
    (saved,) = given(created(), revised(), revised("large", 3)).workflows.values()
    assert (saved.workflow.name, saved.workflow.revision) == ("large", 3)
    assert (saved.created_at_ms, saved.revised_at_ms, saved.revised_by) == (T0 + 2000, T0 + 4000, "token:4")


def test_a_state_goes_through_its_row_without_loss() -> None:
    workspace = given(created(), revised(hyperparameters=Hyperparameters(seed=3), augmentations=Augmentations()))
    assert load(dump(workspace), Workspace) == workspace


def test_a_row_of_an_earlier_version_has_no_workflows() -> None:
    text = '{"workspace_id":"ws_1","version":3,"name":"ours","tokens":{},"datasets":{},"exhaustion":null}'
    assert load(text, Workspace).workflows == {}


def test_the_platform_numbers_a_new_workflow() -> None:
    wanted = Workflow(name="small", revision=7, weights=RANDOM)
    event = workflows.create({}, wanted, "wf_9")
    assert event == ev.WorkflowCreated(workflow=workflow("small", "wf_9", weights=RANDOM))
    assert (wanted.workflow_id, wanted.revision) == ("", 7), "what was asked for is left alone"


def test_a_name_is_given_once_and_free_again_after_its_workflow() -> None:
    taken = given(created()).workflows
    with pytest.raises(WorkflowNameTaken) as refused:
        workflows.create(taken, Workflow(name="small"), "wf_2")
    assert refused.value.detail == errors_pb2.AlreadyExists(kind="workflow", name="small")
    free = given(created(), ev.WorkflowDeleted(workflow_id="wf_1")).workflows
    assert workflows.create(free, Workflow(name="small"), "wf_2").workflow.workflow_id == "wf_2"


def test_a_revision_replaces_all_of_the_one_that_its_maker_has_seen() -> None:
    known = given(created(), revised(hyperparameters=Hyperparameters(seed=3))).workflows
    event = workflows.revise(known, known["wf_1"].workflow, Workflow(name="large", revision=2))
    assert event == revised("large", 3), "renamed, and the seed is the default again"


@pytest.mark.parametrize("seen", [0, 1, 3])
def test_a_revision_of_another_one_is_refused_with_the_one_that_there_is(seen: int) -> None:
    known = given(created(), revised()).workflows
    with pytest.raises(WorkflowRevisedMeanwhile, match=f"at revision 2, and this change is of revision {seen}") as no:
        workflows.revise(known, known["wf_1"].workflow, Workflow(name="small", revision=seen))
    assert no.value.detail == errors_pb2.RevisedMeanwhile(kind="workflow", id="wf_1", revision=2)


def test_a_workflow_is_renamed_only_to_a_name_that_is_free() -> None:
    known = given(created(), created("other", "wf_2")).workflows
    with pytest.raises(WorkflowNameTaken):
        workflows.revise(known, known["wf_1"].workflow, Workflow(name="other", revision=1))
    workflows.revise(known, known["wf_1"].workflow, Workflow(name="small", revision=1))


def test_a_workspace_has_a_thousand_workflows_and_the_limit_is_named() -> None:
    full = {f"wf_{n}": workflows.Saved(workflow(f"w{n}", f"wf_{n}"), T0, T0, "") for n in range(1000)}
    with pytest.raises(TooManyWorkflows, match="workflows per workspace: 1001 is above the limit of 1000; delete one"):
        workflows.create(full, Workflow(name="one more"), "wf_x")
    del full["wf_7"]
    workflows.create(full, Workflow(name="one more"), "wf_x")


def test_an_id_names_a_workflow_before_a_name_does() -> None:
    known = given(created("wf_2", "wf_1"), created("two", "wf_2")).workflows
    for named, found in (("wf_2", "wf_2"), ("two", "wf_2"), ("wf_1", "wf_1")):
        one = workflows.find(known, named)
        assert one is not None
        assert one.workflow.workflow_id == found
    assert workflows.find(known, "three") is None


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("dataset_id", SubmitJobRequest(dataset_id="d")),
        ("architecture_id", SubmitJobRequest(architecture_id="a")),
        ("hyperparameters", SubmitJobRequest(hyperparameters=Hyperparameters(seed=1))),
        ("augmentations", SubmitJobRequest(augmentations=Augmentations())),
        ("weights", SubmitJobRequest(weights=RANDOM)),
    ],
)
def test_what_a_workflow_says_is_not_said_beside_it(field: str, request_: SubmitJobRequest) -> None:
    request_.workflow_id = "small"
    with pytest.raises(InvalidField, match=f"^{field} is .*, but the workflow of workflow_id says that"):
        made_of(request_, given(created()))


def test_a_submission_takes_the_workflow_as_it_is_and_empty_settings_say_nothing() -> None:
    workspace = given(created(), revised(weights=RANDOM))
    request = SubmitJobRequest(workflow_id="small", hyperparameters=Hyperparameters(), weights=InitialWeights())
    assert made_of(request, workspace) == workflow(revision=2, weights=RANDOM)
    with pytest.raises(NotFound, match="there is no workflow 'big' in this workspace; see `tether workflows list`"):
        made_of(SubmitJobRequest(workflow_id="big"), workspace)
