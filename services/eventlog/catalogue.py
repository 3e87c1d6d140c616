"""Which events there are: names, message classes, and how a record carries one."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import artifact_pb2, job_pb2, runner_pb2, workspace_pb2

# Raised when the meaning of a stored payload changes; adding a field does not change it.
SCHEMA_VERSION = 1

_TYPE_URL = "type.googleapis.com/tether.events.v1."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# Messages of the same files that are parts of events and not events themselves.
_PARTS = {"ChargedGpu", "ChargedInterval"}

# Event name → message class, for all events of package tether.events.v1.
EVENTS: dict[str, type[Message]] = {
    name: getattr(module, name)
    for module in (runner_pb2, job_pb2, artifact_pb2, workspace_pb2)
    for name in module.DESCRIPTOR.message_types_by_name
    if name not in _PARTS
}


def type_url(name: str) -> str:
    """Type URL of the Any that carries the event called `name`."""
    return _TYPE_URL + name


def payload_of(record: EventRecord) -> Message:
    """The event that a record carries. Raises KeyError for a type that this version does not know."""
    return EVENTS[record.type].FromString(record.payload.value)


def to_us(moment: datetime) -> int:
    """Unix microseconds, exact (a float of seconds is not)."""
    return (moment - _EPOCH) // _MICROSECOND


class EventRow(NamedTuple):
    """A row of the table `events`, in the order of its columns."""

    position: int
    event_id: uuid.UUID
    workspace_id: str
    stream_kind: str
    stream_id: str
    stream_version: int
    type: str
    schema_version: int
    payload: bytes
    recorded_at: datetime
    actor: str
    correlation_id: str
    causation_id: str

    def record(self) -> EventRecord:
        """The row as the message that readers get."""
        record = EventRecord(
            position=self.position,
            event_id=str(self.event_id),
            workspace_id=self.workspace_id,
            stream_kind=self.stream_kind,
            stream_id=self.stream_id,
            stream_version=self.stream_version,
            type=self.type,
            schema_version=self.schema_version,
            recorded_at_us=to_us(self.recorded_at),
            actor=self.actor,
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
        )
        record.payload.type_url = type_url(self.type)
        record.payload.value = self.payload
        return record


# For `select`: the columns of EventRow, in its order.
COLUMNS = ", ".join(EventRow._fields)
