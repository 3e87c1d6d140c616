"""The files of an export in each format. A part is written beside the export, and complete before it gets its name."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.client import plain
from services.client.errors import NotInstalled
from services.client.grouping import by_type
from services.eventlog.catalogue import EVENTS

if TYPE_CHECKING:
    import pyarrow as pa

# A row group; many small ones would make the file large and slow.
_GROUP_EVENTS = 60_000
# All rows that wait for their row group, over all types.
_WAITING_BYTES = 48 << 20

# All events in one file, in the log's order.
ALL = "events"


class Parts(Protocol):
    """The parts that are being written, one of each kind. `add` in position order, then `close`."""

    def add(self, records: Sequence[EventRecord]) -> None: ...

    def close(self) -> dict[str, int]:
        """Finish every file, durably. The kinds, with the number of events in each."""
        ...


def open_parts(format_: str, path: Callable[[str], Path]) -> Parts:
    """`path` names the file of a kind. Raises NotInstalled."""
    if format_ == "parquet":
        return _Parquet(path)
    if format_ == "jsonl":
        return _JsonLines(path)
    assert format_ == "csv", format_
    return _Csv(path)


class _Parquet:
    """Typed columns, a file for each event type; rows wait in memory until they fill a row group."""

    def __init__(self, path: Callable[[str], Path]) -> None:
        try:
            import pyarrow.parquet
        except ImportError:
            raise NotInstalled("an export in Parquet", ", or choose --format jsonl") from None
        self._open: Callable[..., Any] = pyarrow.parquet.ParquetWriter
        self._path = path
        self._files: dict[str, Any] = {}
        self._waiting: dict[str, list[pa.RecordBatch]] = {}
        self._waiting_events: dict[str, int] = {}
        self._waiting_bytes = 0
        self._events: dict[str, int] = {}

    def add(self, records: Sequence[EventRecord]) -> None:
        from services.client.columns import batch

        for type_, of_type in by_type(records).items():
            made = batch(type_, of_type)
            self._waiting.setdefault(type_, []).append(made)
            self._waiting_events[type_] = self._waiting_events.get(type_, 0) + len(of_type)
            self._waiting_bytes += made.nbytes
            self._events[type_] = self._events.get(type_, 0) + len(of_type)
            if self._waiting_events[type_] >= _GROUP_EVENTS:
                self._flush(type_)
        while self._waiting_bytes > _WAITING_BYTES:
            self._flush(max(self._waiting, key=lambda type_: sum(one.nbytes for one in self._waiting[type_])))

    def close(self) -> dict[str, int]:
        for type_ in list(self._waiting):
            self._flush(type_)
        for type_, writer in self._files.items():
            writer.close()
            _sync(self._path(type_))
        return self._events

    def _flush(self, type_: str) -> None:
        import pyarrow as pa

        from services.client.columns import schema

        batches = self._waiting.pop(type_)
        self._waiting_bytes -= sum(one.nbytes for one in batches)
        del self._waiting_events[type_]
        if type_ not in self._files:
            self._files[type_] = self._open(self._path(type_), schema(type_), compression="zstd", compression_level=1)
        self._files[type_].write_table(pa.Table.from_batches(batches, schema(type_)))


class _JsonLines:
    """One file: a document a line, in the log's order, the payload under its own key."""

    def __init__(self, path: Callable[[str], Path]) -> None:
        self._path = path
        self._out: TextIO | None = None
        self._events = 0
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def add(self, records: Sequence[EventRecord]) -> None:
        if self._out is None:
            self._out = self._path(ALL).open("w", encoding="utf-8")
        encode = self._encode
        lines = [
            encode({**plain.envelope(record), "type": record.type, "payload": plain.payload(record)})
            for record in records
        ]
        self._out.writelines(f"{line}\n" for line in lines)
        self._events += len(lines)

    def close(self) -> dict[str, int]:
        if self._out is None:
            return {}
        _finish(self._out)
        return {ALL: self._events}


class _Csv:
    """A file with a heading for each event type; what is nested is JSON in its cell."""

    def __init__(self, path: Callable[[str], Path]) -> None:
        self._path = path
        self._files: dict[str, TextIO] = {}
        self._writers: dict[str, Any] = {}
        self._events: dict[str, int] = {}

    def add(self, records: Sequence[EventRecord]) -> None:
        for type_, of_type in by_type(records).items():
            if type_ not in self._files:
                self._files[type_] = self._path(type_).open("w", encoding="utf-8", newline="")
                self._writers[type_] = csv.writer(self._files[type_], lineterminator="\n")
                self._writers[type_].writerow(_headings(type_))
            self._writers[type_].writerows(map(_cells, of_type))
            self._events[type_] = self._events.get(type_, 0) + len(of_type)

    def close(self) -> dict[str, int]:
        for out in self._files.values():
            _finish(out)
        return self._events


def _headings(type_: str) -> list[str]:
    envelope = list(plain.envelope(EventRecord()))
    event = EVENTS.get(type_)
    fields = ["payload"] if event is None else [field.name for field in event.DESCRIPTOR.fields]
    return [*envelope, *(f"payload_{name}" if name in envelope else name for name in fields)]


def _cells(record: EventRecord) -> list[Any]:
    payload = plain.payload(record)
    values = [*plain.envelope(record).values(), *(payload.values() if isinstance(payload, dict) else [payload])]
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def _finish(out: TextIO) -> None:
    out.flush()
    os.fsync(out.fileno())
    out.close()


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())
