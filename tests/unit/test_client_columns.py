"""Typed columns hold what the events say, whatever they say: through Arrow, Parquet, JSON and CSV."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import JobFailed
from services.client import columns
from services.client.parts import open_parts
from services.eventlog.catalogue import EVENTS
from tests.support.exported import rows
from tests.support.histories import record

_INTS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
# XML-like control characters and unpaired surrogates aside, any text.
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=8)


def values(field: Any) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        # The last is of a version to come.
        return st.sampled_from([*(one.number for one in field.enum_type.values), 77])
    if field.type in _INTS:
        return st.integers(*_INTS[field.type])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=8)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.floats()
    assert field.type == FieldDescriptor.TYPE_STRING, field.full_name
    return _TEXT


def filled(draw: st.DrawFn, message: Message) -> Message:
    """The message with some of its fields set at random, those of its parts too."""
    for field in message.DESCRIPTOR.fields:
        if draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            of_map = st.dictionaries(_TEXT, values(field.message_type.fields_by_name["value"]), max_size=2)
            getattr(message, field.name).update(draw(of_map))
        elif field.is_repeated and field.message_type is not None:
            for _ in range(draw(st.integers(0, 2))):
                filled(draw, getattr(message, field.name).add())
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values(field), max_size=2)))
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            filled(draw, part)
        else:
            setattr(message, field.name, draw(values(field)))
    return message


@st.composite
def events(draw: st.DrawFn) -> list[EventRecord]:
    """A few events of one type."""
    event = EVENTS[draw(st.sampled_from(sorted(EVENTS)))]
    return [record(n, filled(draw, event()), version=n) for n in range(1, draw(st.integers(1, 4)) + 1)]


def expected(message: Any) -> dict[str, Any]:
    """The message's fields by a walk of its own."""
    told: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            of_value = field.message_type.fields_by_name["value"]
            told[field.name] = {key: _one(of_value, value[key]) for key in sorted(value)}
        elif field.is_repeated:
            told[field.name] = [_one(field, one) for one in value]
        elif field.has_presence and not message.HasField(field.name):
            told[field.name] = None
        else:
            told[field.name] = _one(field, value)
    return told


def _one(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return expected(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    return value


def payload(row: dict[str, Any], type_: str) -> dict[str, Any]:
    return {field.name: row[columns.payload_name(field.name)] for field in EVENTS[type_].DESCRIPTOR.fields}


def normal(value: Any) -> Any:
    """NaN equals nothing, itself included; as text it does."""
    if isinstance(value, dict):
        return {key: normal(one) for key, one in value.items()}
    if isinstance(value, list):
        return [normal(one) for one in value]
    return repr(value) if isinstance(value, float) else value


def as_json(value: Any) -> Any:
    """As text formats carry it."""
    if isinstance(value, dict):
        return {key: as_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_json(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(events())
def test_every_field_of_every_event_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, known: list[EventRecord]
) -> None:
    type_ = known[0].type
    told = [expected(EVENTS[type_].FromString(one.payload.value)) for one in known]
    folder = tmp_path_factory.mktemp("parts")

    made = columns.batch(type_, known)
    made.validate(full=True)
    found = made.to_pylist(maps_as_pydicts="strict")
    assert normal([payload(row, type_) for row in found]) == normal(told)
    assert [row["position"] for row in found] == [one.position for one in known]
    assert [int(row["recorded_at"].timestamp() * 1000) for row in found] == [
        one.recorded_at_us // 1000 for one in known
    ]

    for format_ in ("parquet", "jsonl", "csv"):
        parts = open_parts(format_, lambda kind, format_=format_: folder / f"{kind}.{format_}")  # type: ignore[misc]
        parts.add(known[:1])
        parts.add(known[1:])
        (kind,) = parts.close()
        written = rows(folder / f"{kind}.{format_}")
        if format_ == "parquet":
            assert normal([payload(row, type_) for row in written]) == normal(told)
        elif format_ == "jsonl":
            assert normal([row["payload"] for row in written]) == normal(as_json(told))
        else:
            assert [payload(row, type_) for row in written] == [
                {key: cell(one) for key, one in row.items()} for row in as_json(told)
            ]


def cell(value: Any) -> str:
    """A value as a cell of a CSV file."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def test_a_column_s_type_follows_from_the_descriptor() -> None:
    kinds = {field.name: str(field.type) for field in columns.schema("JobAssigned")}
    assert kinds["recorded_at"] == "timestamp[us, tz=UTC]"
    assert kinds["window_ms"] == "int64"
    assert kinds["simulated"] == "bool"
    assert kinds["gpus"].startswith("list<item: struct<uuid: string, type: string, multiplier_micros: int64>")
    assert "dictionary<values=string" in str(columns.schema("JobFailed").field("reason").type)
    assert "payload_position" in columns.schema("QuotaExhausted").names, "the envelope has a position already"


def test_an_event_of_a_version_to_come_is_kept_as_it_was_stored(tmp_path: Path) -> None:
    strange = record(1, JobFailed(attempt_id="a"))
    strange.type = "JobTeleported"
    parts = open_parts("parquet", lambda kind: tmp_path / kind)
    parts.add([strange])
    parts.close()
    (row,) = pq.read_table(tmp_path / "JobTeleported").to_pylist()
    assert (row["position"], row["payload"]) == (1, strange.payload.value)
