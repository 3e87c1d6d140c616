"""A workspace: its tokens, its datasets, its workflows, and whether its minutes are used up."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from google.protobuf.message import Message

from protos.events.v1 import workspace_pb2 as ev
from protos.training.v1.training_pb2 import Dataset
from services.scheduler.domain import token as tokens
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.token import Token
from services.scheduler.domain.workflow import Workflows, deleted, saved


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """The minutes of a calendar month are used up."""

    period: str
    quota_milliminutes: int
    used_milliminutes: int


@dataclass(frozen=True, slots=True)
class Workspace:
    workspace_id: str
    version: int
    name: str
    tokens: Mapping[str, Token] = field(default_factory=dict)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    workflows: Workflows = field(default_factory=dict)
    exhaustion: Exhaustion | None = None

    def used_up(self, period: str) -> Exhaustion | None:
        """Why no training may start, and none go on, in a month; None: there are minutes, as far as was said."""
        gone = self.exhaustion
        return gone if gone is not None and gone.period == period else None

    def dataset(self, name_or_id: str) -> Dataset | None:
        found = self.datasets.get(name_or_id)
        return found or next((d for d in self.datasets.values() if d.name == name_or_id), None)


def evolve(workspace: Workspace | None, event: Message, at: Envelope) -> Workspace:
    """The workspace after an event. Never refuses."""
    if isinstance(event, ev.WorkspaceCreated):
        return Workspace(at.stream_id, at.version, event.name)
    assert workspace is not None, "a workspace's stream begins with WorkspaceCreated"
    workspace = replace(workspace, version=at.version)
    match event:
        case ev.TokenCreated():
            return replace(workspace, tokens=tokens.created(workspace.tokens, event, at))
        case ev.TokenRevoked():
            return replace(workspace, tokens=tokens.revoked(workspace.tokens, event.token_id))
        case ev.DatasetRegistered():
            return replace(workspace, datasets={**workspace.datasets, event.dataset.dataset_id: event.dataset})
        case ev.WorkflowCreated() | ev.WorkflowRevised():
            return replace(workspace, workflows=saved(workspace.workflows, event.workflow, at))
        case ev.WorkflowDeleted():
            return replace(workspace, workflows=deleted(workspace.workflows, event.workflow_id))
        case ev.QuotaExhausted():
            exhaustion = Exhaustion(event.period, event.quota_milliminutes, event.used_milliminutes)
            return replace(workspace, exhaustion=exhaustion)
        case ev.QuotaSet():
            # The quota service says QuotaExhausted again where the new quota is used up as well.
            return replace(workspace, exhaustion=None)
        case ev.QuotaReplenished():
            # Said late, of a month that is over, it opens no door of this month.
            return replace(workspace, exhaustion=None) if workspace.used_up(event.period) else workspace
        case ev.QuotaThresholdReached() | ev.MinutesAdjusted():
            # What an adjustment means for the quota is the quota service's to say: only it knows what is used.
            return workspace
    raise AssertionError(f"{event.DESCRIPTOR.name} is not an event of a workspace")
