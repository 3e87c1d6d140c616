"""A file that the platform keeps, as far as the scheduler has to know: of which job it is, and whether it is there."""

from dataclasses import dataclass, replace

from google.protobuf.message import Message

from protos.events.v1 import artifact_pb2 as ev
from services.scheduler.domain.kinds import Envelope

CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class Artifact:
    artifact_id: str
    workspace_id: str
    version: int
    job_id: str
    attempt_id: str = ""
    kind: str = ""
    name: str = ""
    sha256: str = ""
    # Positions of the events that tell so; zero: it was never stored, or is still there.
    stored_position: int = 0
    removed_position: int = 0

    @property
    def there(self) -> bool:
        return bool(self.stored_position) and not self.removed_position

    def there_at(self, position: int) -> bool:
        """Whether the platform had it when the log ended there."""
        removed = 0 < self.removed_position <= position
        return 0 < self.stored_position <= position and not removed


def evolve(artifact: Artifact | None, event: Message, at: Envelope) -> Artifact:
    """The artifact after an event. Never refuses."""
    match event:
        case ev.ArtifactStored():
            return Artifact(
                at.stream_id,
                at.workspace_id,
                at.version,
                event.job_id,
                event.attempt_id,
                event.kind,
                event.name,
                event.sha256,
                stored_position=at.position,
            )
        case ev.ArtifactRemoved():
            known = artifact or Artifact(at.stream_id, at.workspace_id, at.version, event.job_id)
            return replace(known, version=at.version, removed_position=at.position)
    raise AssertionError(f"{event.DESCRIPTOR.name} is not an event of an artifact")
