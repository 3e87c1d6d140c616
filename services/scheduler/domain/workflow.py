"""Saved workflows of a workspace: what trainings are made of, under names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from protos.events.v1.workspace_pb2 import WorkflowCreated, WorkflowRevised
from protos.training.v1.training_pb2 import Workflow
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.refusals import TooManyWorkflows, WorkflowNameTaken, WorkflowRevisedMeanwhile

MAX_WORKFLOWS = 1000


@dataclass(frozen=True, slots=True)
class Saved:
    """The newest revision, when the first was made, and when and by whom this one."""

    workflow: Workflow
    created_at_ms: int
    revised_at_ms: int
    revised_by: str


# By id.
Workflows: TypeAlias = Mapping[str, Saved]


def find(workflows: Workflows, name_or_id: str) -> Saved | None:
    found = workflows.get(name_or_id)
    return found or next((one for one in workflows.values() if one.workflow.name == name_or_id), None)


def create(workflows: Workflows, wanted: Workflow, workflow_id: str) -> WorkflowCreated:
    """Raises WorkflowNameTaken, TooManyWorkflows."""
    if len(workflows) >= MAX_WORKFLOWS:
        raise TooManyWorkflows(MAX_WORKFLOWS)
    return WorkflowCreated(workflow=_numbered(workflows, wanted, workflow_id, 1))


def revise(workflows: Workflows, known: Workflow, wanted: Workflow) -> WorkflowRevised:
    """`wanted` replaces all of `known`, and its revision is the one that its maker has seen.

    Raises WorkflowRevisedMeanwhile, WorkflowNameTaken.
    """
    if wanted.revision != known.revision:
        raise WorkflowRevisedMeanwhile(known.workflow_id, known.name, wanted.revision, known.revision)
    return WorkflowRevised(workflow=_numbered(workflows, wanted, known.workflow_id, known.revision + 1))


def saved(workflows: Workflows, workflow: Workflow, at: Envelope) -> Workflows:
    """The workflows after one was created or revised."""
    known = workflows.get(workflow.workflow_id)
    created_at_ms = known.created_at_ms if known is not None else at.at_ms
    return {**workflows, workflow.workflow_id: Saved(workflow, created_at_ms, at.at_ms, at.actor)}


def deleted(workflows: Workflows, workflow_id: str) -> Workflows:
    return {known: one for known, one in workflows.items() if known != workflow_id}


def _numbered(workflows: Workflows, wanted: Workflow, workflow_id: str, revision: int) -> Workflow:
    """The workflow as it is saved, under a name that no other has."""
    for one in workflows.values():
        if one.workflow.name == wanted.name and one.workflow.workflow_id != workflow_id:
            raise WorkflowNameTaken(wanted.name)
    numbered = Workflow()
    numbered.CopyFrom(wanted)
    numbered.workflow_id, numbered.revision = workflow_id, revision
    return numbered
