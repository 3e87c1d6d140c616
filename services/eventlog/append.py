"""What is appended, in the words of a command handler."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.catalogue import EventRow


class Conflict(Exception):
    """A stream has moved on since it was loaded. Load, decide and append again."""

    def __init__(self, kind: str, stream_id: str, expected: int, actual: int) -> None:
        super().__init__(f"{kind} {stream_id} is at version {actual}, not {expected}")
        self.kind, self.stream_id = kind, stream_id


class RequestIdReused(Exception):
    """The same request id was used by the same subject for another content."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request id {request_id} was used for another request; make a new id for a new request")
        self.request_id = request_id


class LogUnavailable(Exception):
    """PostgreSQL did not take the append in time. Nothing is known to be appended; the same request may be repeated."""


# Named tuples here: a frozen dataclass takes three times as long to make, and this is the hottest path there is.
class StreamAppend(NamedTuple):
    """Events for one stream. `expected` is the version they follow; None appends after whatever is there."""

    kind: str
    stream_id: str
    expected: int | None
    events: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Request:
    """Identity of a mutating request: who sent it, its id, and the SHA-256 of its content."""

    subject: str
    request_id: str
    content_sha256: bytes


class Append(NamedTuple):
    """One command's events: all of them are appended, or none.

    `respond` makes the answer that is stored for a repeat of `request`, from the records with their positions.
    It must hold no secret.
    """

    workspace_id: str
    streams: Sequence[StreamAppend]
    actor: str
    correlation_id: str = ""
    causation_id: str = ""
    request: Request | None = None
    respond: Callable[[Sequence[EventRecord]], Message] | None = None


class Appended:
    """What became of an `Append`. Its records are made when somebody asks for them: most callers do not."""

    __slots__ = ("_records", "_rows", "position", "repeated", "response")

    def __init__(
        self,
        position: int,
        rows: Sequence[tuple[Any, ...]] = (),
        repeated: bytes | None = None,
        response: bytes | None = None,
    ) -> None:
        # Position of its last event, or of the head where it had none.
        self.position = position
        self._rows = rows
        self._records: Sequence[EventRecord] | None = None
        # The stored first answer, where the request was a repeat; no event was appended then.
        self.repeated = repeated
        # The answer that was stored with this append.
        self.response = response

    @property
    def records(self) -> Sequence[EventRecord]:
        if self._records is None:
            self._records = [EventRow(*row).record() for row in self._rows]
        return self._records
