"""Events as plain values, for text: numbers, names of enums, bytes in hexadecimal, nested things as dicts and lists.

A number that JSON does not have is a string, as in proto JSON: "NaN", "Infinity", "-Infinity".
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.catalogue import EVENTS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Plain = Callable[[Any], Any]


def moment(at_us: int) -> str:
    """ISO 8601 in UTC with microseconds, for example `2026-11-15T12:00:00.000250Z`."""
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def envelope(record: EventRecord) -> dict[str, Any]:
    """The columns that every event has, in the order of the typed tables."""
    return {
        "position": record.position,
        "event_id": record.event_id,
        "workspace_id": record.workspace_id,
        "stream_kind": record.stream_kind,
        "stream_id": record.stream_id,
        "stream_version": record.stream_version,
        "recorded_at": moment(record.recorded_at_us),
        "actor": record.actor,
        "correlation_id": record.correlation_id,
        "causation_id": record.causation_id,
        "schema_version": record.schema_version,
    }


def payload(record: EventRecord) -> Any:
    """The event's fields by name; of a type that this version does not know its bytes."""
    event = EVENTS.get(record.type)
    if event is None:
        return record.payload.value.hex()
    return _message(event.DESCRIPTOR)(event.FromString(record.payload.value))


@cache
def _message(descriptor: Descriptor) -> Plain:
    fields = [(field.name, _field(field)) for field in descriptor.fields]

    def plain(message: Message) -> dict[str, Any]:
        return {name: get(message) for name, get in fields}

    return plain


def _field(field: FieldDescriptor) -> Plain:
    get, name, value = attrgetter(field.name), field.name, _value(field)
    if field.is_repeated:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            of_entry = _value(entry.fields_by_name["value"])
            return lambda message: {str(key): of_entry(one) for key, one in sorted(get(message).items())}
        return lambda message: [value(one) for one in get(message)]
    if field.has_presence:
        return lambda message: value(get(message)) if message.HasField(name) else None
    return lambda message: value(get(message))


def _value(field: FieldDescriptor) -> Plain:
    if field.enum_type is not None:
        names = {one.number: one.name for one in field.enum_type.values}
        return lambda number: names.get(number) or str(number)
    if field.message_type is not None:
        return _message(field.message_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.hex
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return _number
    return _same


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _same(value: Any) -> Any:
    return value
