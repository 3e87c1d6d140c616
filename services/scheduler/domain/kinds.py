"""Names for the protos' enum types, which exist for the type checker only, and the envelope that evolve needs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from protos.events.v1.runner_pb2 import RunnerStatus, SuspensionOwner
from protos.scheduler.v1.job_pb2 import JobState
from protos.training.v1.training_pb2 import EndReason, WeightsSource

if TYPE_CHECKING:
    from protos.events.v1.workspace_pb2 import Role, TokenKind

    Status: TypeAlias = RunnerStatus.ValueType
    Owner: TypeAlias = SuspensionOwner.ValueType
    State: TypeAlias = JobState.ValueType
    Reason: TypeAlias = EndReason.ValueType
    Source: TypeAlias = WeightsSource.ValueType
    RoleValue: TypeAlias = Role.ValueType
    TokenKindValue: TypeAlias = TokenKind.ValueType
else:
    Status = Owner = State = Reason = Source = RoleValue = TokenKindValue = int


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a record says besides its payload."""

    stream_id: str
    workspace_id: str
    version: int
    at_ms: int
    actor: str
    position: int
    correlation_id: str = ""


def status_label(status: Status) -> str:
    """For example `ONLINE`."""
    return RunnerStatus.Name(status).removeprefix("RUNNER_STATUS_")


def state_label(state: State) -> str:
    """For example `RUNNING`."""
    return JobState.Name(state).removeprefix("JOB_STATE_")
