"""Which events there are: names, message classes, and how a record carries one."""

from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2, runner_pb2, workspace_pb2
from services.postgres import Record

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
    for module in (runner_pb2, job_pb2, workspace_pb2)
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


def record_of(row: Record) -> EventRecord:
    """The record of one row of the table `events`."""
    record = EventRecord(
        position=row["position"],
        event_id=str(row["event_id"]),
        workspace_id=row["workspace_id"],
        stream_kind=row["stream_kind"],
        stream_id=row["stream_id"],
        stream_version=row["stream_version"],
        type=row["type"],
        schema_version=row["schema_version"],
        recorded_at_us=to_us(row["recorded_at"]),
        actor=row["actor"],
        correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
    )
    record.payload.type_url = type_url(row["type"])
    record.payload.value = row["payload"]
    return record
