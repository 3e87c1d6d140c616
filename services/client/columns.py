"""Events as Arrow columns, derived from the protos' descriptors: a new field of an event is a new column."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from operator import attrgetter
from typing import Any

import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.catalogue import EVENTS

# Values of one field over many messages → one array.
Build = Callable[[list[Any]], pa.Array]

_MOMENT = pa.timestamp("us", tz="UTC")

# The columns that every event has.
ENVELOPE: tuple[tuple[str, pa.DataType], ...] = (
    ("position", pa.int64()),
    ("event_id", pa.string()),
    ("workspace_id", pa.string()),
    ("stream_kind", pa.string()),
    ("stream_id", pa.string()),
    ("stream_version", pa.int64()),
    ("recorded_at", _MOMENT),
    ("actor", pa.string()),
    ("correlation_id", pa.string()),
    ("causation_id", pa.string()),
    ("schema_version", pa.int32()),
)
ENVELOPE_NAMES = tuple(name for name, _ in ENVELOPE)
# Of a type that this version does not know: the message as it was stored.
RAW_PAYLOAD = "payload"

_SCALARS = {
    FieldDescriptor.TYPE_DOUBLE: pa.float64(),
    FieldDescriptor.TYPE_FLOAT: pa.float32(),
    FieldDescriptor.TYPE_INT64: pa.int64(),
    FieldDescriptor.TYPE_UINT64: pa.uint64(),
    FieldDescriptor.TYPE_INT32: pa.int32(),
    FieldDescriptor.TYPE_FIXED64: pa.uint64(),
    FieldDescriptor.TYPE_FIXED32: pa.uint32(),
    FieldDescriptor.TYPE_BOOL: pa.bool_(),
    FieldDescriptor.TYPE_STRING: pa.string(),
    FieldDescriptor.TYPE_BYTES: pa.binary(),
    FieldDescriptor.TYPE_UINT32: pa.uint32(),
    FieldDescriptor.TYPE_SFIXED32: pa.int32(),
    FieldDescriptor.TYPE_SFIXED64: pa.int64(),
    FieldDescriptor.TYPE_SINT32: pa.int32(),
    FieldDescriptor.TYPE_SINT64: pa.int64(),
}


@cache
def schema(type_: str) -> pa.Schema:
    """The columns of an event type: the envelope's, then the payload's. The metadata `type` names it."""
    fields = [pa.field(name, kind) for name, kind in ENVELOPE]
    fields += [pa.field(name, kind) for name, kind, _ in _payload_columns(type_)]
    return pa.schema(fields, metadata={"type": type_})


def batch(type_: str, records: Sequence[EventRecord]) -> pa.RecordBatch:
    """Records of one type as one batch, in their order. Raises DecodeError for a payload that is no such event."""
    arrays = [_envelope(records, name, kind) for name, kind in ENVELOPE]
    event = EVENTS.get(type_)
    payloads: list[Any] = [record.payload.value for record in records]
    if event is not None:
        payloads = list(map(event.FromString, payloads))
    arrays += [build(payloads) for _, _, build in _payload_columns(type_)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema(type_))


def payload_name(name: str) -> str:
    """The column of a payload's field: its name, unless the envelope has a column of that name."""
    return f"payload_{name}" if name in ENVELOPE_NAMES else name


def _envelope(records: Sequence[EventRecord], name: str, kind: pa.DataType) -> pa.Array:
    if name == "recorded_at":
        return pa.array([record.recorded_at_us for record in records], pa.int64()).cast(_MOMENT)
    return pa.array(list(map(attrgetter(name), records)), kind)


@cache
def _payload_columns(type_: str) -> tuple[tuple[str, pa.DataType, Build], ...]:
    event = EVENTS.get(type_)
    if event is None:
        return ((RAW_PAYLOAD, pa.binary(), lambda values: pa.array(values, pa.binary())),)
    descriptor: Descriptor = event.DESCRIPTOR  # type: ignore[assignment]
    return tuple((payload_name(field.name), *_column(field)) for field in descriptor.fields)


def _column(field: FieldDescriptor) -> tuple[pa.DataType, Build]:
    """Type of a field's column, and how it is made of the messages that carry the field."""
    get, name = attrgetter(field.name), field.name
    if field.is_repeated:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            return _map(get, entry)
        return _list(get, field)
    kind, build = _element(field)
    if field.has_presence:
        # A message, or a scalar's `optional`: absent is null, never zero.
        return kind, lambda messages: build([get(one) if one.HasField(name) else None for one in messages])
    return kind, lambda messages: build(list(map(get, messages)))


def _list(get: Callable[[Message], Any], field: FieldDescriptor) -> tuple[pa.DataType, Build]:
    kind, build = _element(field)

    def lists(messages: list[Any]) -> pa.Array:
        rows = list(map(get, messages))
        return pa.ListArray.from_arrays(_offsets(rows), build([one for row in rows for one in row]))

    return pa.list_(pa.field("item", kind)), lists


def _map(get: Callable[[Message], Any], entry: Descriptor) -> tuple[pa.DataType, Build]:
    key_kind, build_keys = _element(entry.fields_by_name["key"])
    value_kind, build_values = _element(entry.fields_by_name["value"])

    def maps(messages: list[Any]) -> pa.Array:
        rows = list(map(get, messages))
        # A map has no order of its own; sorted, the same events make the same bytes.
        ordered = list(map(sorted, rows))
        keys = build_keys([key for of_row in ordered for key in of_row])
        values = build_values([row[key] for row, of_row in zip(rows, ordered, strict=True) for key in of_row])
        return pa.MapArray.from_arrays(_offsets(ordered), keys, values)

    return pa.map_(key_kind, value_kind), maps


def _offsets(rows: Sequence[Any]) -> pa.Array:
    return pa.array(list(accumulate(map(len, rows), initial=0)), pa.int32())


def _element(field: FieldDescriptor) -> tuple[pa.DataType, Build]:
    """As `_column`, for the field's values instead of the messages; a value may be None."""
    if field.enum_type is not None:
        return _enum(field)
    if field.message_type is not None:
        return _struct(field.message_type)
    kind = _SCALARS[field.type]
    return kind, lambda values: pa.array(values, kind)


def _enum(field: FieldDescriptor) -> tuple[pa.DataType, Build]:
    assert field.enum_type is not None
    names = [value.name for value in field.enum_type.values]
    index_of = {value.number: index for index, value in enumerate(field.enum_type.values)}

    def enums(values: list[Any]) -> pa.Array:
        known, unknown = names, {one for one in values if one is not None and one not in index_of}
        found = index_of
        if unknown:
            # Of a newer version: its number.
            found = index_of | {one: len(names) + at for at, one in enumerate(sorted(unknown))}
            known = [*names, *map(str, sorted(unknown))]
        indices = pa.array([None if one is None else found[one] for one in values], pa.int32())
        return pa.DictionaryArray.from_arrays(indices, pa.array(known, pa.string()))

    return pa.dictionary(pa.int32(), pa.string()), enums


def _struct(descriptor: Descriptor) -> tuple[pa.DataType, Build]:
    columns = [(field.name, *_column(field)) for field in descriptor.fields]
    fields = [pa.field(name, kind) for name, kind, _ in columns]
    empty = GetMessageClass(descriptor)()

    def structs(values: list[Any]) -> pa.Array:
        absent = [one is None for one in values]
        present = [empty if one is None else one for one in values] if any(absent) else values
        arrays = [build(present) for _, _, build in columns]
        return pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(absent, pa.bool_()))

    return pa.struct(fields), structs
