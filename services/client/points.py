"""Points of a training as one file: every one of them, in constant memory, and complete before it gets its name."""

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from protos.metrics.v1.metrics_pb2 import ReadPointsResponse
from services.client.errors import NotInstalled

COLUMNS = ("job_id", "attempt_id", "series", "step", "value", "at")
FORMATS = ("parquet", "csv")

# A row group; many small ones would make the file large and slow.
_GROUP_POINTS = 100_000


class _Writer(Protocol):
    def add(self, piece: ReadPointsResponse) -> None: ...

    def close(self) -> None: ...


def write_points(
    responses: Iterable[ReadPointsResponse], job_id: str, path: Path, format_: str, tell: Callable[[int], None]
) -> int:
    """Write the points to `path`, over what may be there; how many they were. `tell` gets the number so far.

    Nothing is at `path` before all of it is, durably. Raises NotInstalled, OSError, and what the responses raise.
    """
    partial = path.with_name(f".{path.name}.partial")
    written = 0
    try:
        writer: _Writer = _Parquet(partial, job_id) if format_ == "parquet" else _Csv(partial, job_id)
        for piece in responses:
            writer.add(piece)
            written += len(piece.series.steps)
            tell(written)
        writer.close()
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return written


class _Parquet:
    """Columns as `COLUMNS`; `at` is a timestamp in UTC, in milliseconds."""

    def __init__(self, path: Path, job_id: str) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as parquet
        except ImportError:
            raise NotInstalled("an export in Parquet", ", or choose --format csv") from None
        self._pa = pa
        self._job_id = job_id
        name = pa.dictionary(pa.int32(), pa.string())
        types = (name, name, name, pa.int64(), pa.float64(), pa.timestamp("ms", tz="UTC"))
        self._schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
        self._file: Any = parquet.ParquetWriter(path, self._schema, compression="zstd", compression_level=1)
        self._waiting: list[Any] = []
        self._points = 0

    def add(self, piece: ReadPointsResponse) -> None:
        pa, series = self._pa, piece.series
        count = len(series.steps)
        names = (self._job_id, piece.attempt_id, series.name)
        columns = [
            *(pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([name])) for name in names),
            pa.array(series.steps, pa.int64()),
            pa.array(series.values, pa.float64()),
            pa.array(series.at_ms, pa.int64()).cast(self._schema.field("at").type),
        ]
        self._waiting.append(pa.table(columns, self._schema))
        self._points += count
        if self._points >= _GROUP_POINTS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(self._pa.concat_tables(self._waiting).unify_dictionaries())
        self._waiting, self._points = [], 0


class _Csv:
    """A heading, then a point a line; `at` in Unix milliseconds."""

    def __init__(self, path: Path, job_id: str) -> None:
        self._job_id = job_id
        self._out = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._out, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def add(self, piece: ReadPointsResponse) -> None:
        names, series = (self._job_id, piece.attempt_id, piece.series.name), piece.series
        points = zip(series.steps, series.values, series.at_ms, strict=True)
        self._writer.writerows((*names, step, value, at_ms) for step, value, at_ms in points)

    def close(self) -> None:
        self._out.close()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
