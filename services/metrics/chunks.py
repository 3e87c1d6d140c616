"""Records become column chunks: trimming of repeats, limits, and the chunks' encoding. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from protos.metrics.v1 import ingest_pb2 as pb
from services.metrics.evaluation_limits import refusal
from services.metrics.limits import SPOOLS, Limits
from services.metrics.rate import rate_refusal

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_INT32_MAX = (1 << 31) - 1
# A log chunk is read as a whole: small enough for one response, large enough to be rare.
CHUNK_LINES = 1000
CHUNK_LINE_BYTES = 256 << 10
_SHOWN_REASONS = 3


def skip_of(first_sequence: int, records: int, acknowledged: int, earlier_lost: bool = False) -> int | None:
    """How many leading records of a batch are stored already, given the spool's high-water.

    None where records between the high-water and the batch are missing: nothing of it may be stored, unless they are
    `earlier_lost` for good.
    """
    if first_sequence > acknowledged + 1:
        return 0 if earlier_lost else None
    return min(acknowledged + 1 - first_sequence, records)


@dataclass(frozen=True, slots=True)
class Column:
    """Points of one series, in the order of arrival; all arrays have the same length, at least 1."""

    steps: Integers
    values: Floats
    at_ms: Integers


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of one spool's records, sorted by what they are."""

    request: pb.ReportRequest
    # Records `first_sequence` … `last_sequence` are in here (or in `refused`).
    first_sequence: int
    last_sequence: int
    columns: dict[str, Column]
    lines: Sequence[pb.Record]
    evaluations: Sequence[tuple[int, pb.Evaluation]]
    # Preview images and facts.
    told_once: Sequence[tuple[int, pb.Record]] = ()
    # Sequence, stamp and number of values of every record with points.
    rows: Sequence[tuple[int, int, int]] = ()
    # Reason → how many records or values.
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def points(self) -> int:
        return sum(len(column.values) for column in self.columns.values())


def read_batch(request: pb.ReportRequest, skip: int, limits: Limits, too_fast: frozenset[int] = frozenset()) -> Batch:
    """The batch without its first `skip` records and without those beyond the limit of a batch.

    The points of the records `too_fast` (sequences) are beyond the limit of points per second.
    """
    kinds = SPOOLS[request.spool]
    first = request.first_sequence + skip
    records = request.records[skip : limits.batch_records]
    steps: list[int] = []
    at_ms: list[int] = []
    # Name → values, and for each the index into `steps` and `at_ms`.
    found: dict[str, tuple[list[float], list[int]]] = {}
    lines: list[pb.Record] = []
    evaluations: list[tuple[int, pb.Evaluation]] = []
    told_once: list[tuple[int, pb.Record]] = []
    rows: list[tuple[int, int, int]] = []
    refused: Counter[str] = Counter()
    for offset, record in enumerate(records):
        kind = record.WhichOneof("record")
        if kind not in kinds:
            refused[f"the spool {request.spool} takes no {kind or 'empty'} records"] += 1
        elif kind == "points":
            values = record.points.values
            if len(values) > limits.values_per_record:
                refused[_above("values per record", len(values), limits.values_per_record)] += 1
                continue
            rows.append((first + offset, record.at_ms, len(values)))
            if first + offset in too_fast:
                refused[rate_refusal(limits.points_per_s)] += len(values)
                continue
            row = len(steps)
            steps.append(record.points.step)
            at_ms.append(record.at_ms)
            for name, value in values.items():
                column = found.get(name)
                if column is None:
                    column = found[name] = ([], [])
                column[0].append(value)
                column[1].append(row)
        elif (reason := _refusal(record, limits)) is not None:
            refused[reason] += 1
        elif kind == "log_line":
            lines.append(record)
        elif kind == "evaluation":
            evaluations.append((first + offset, record.evaluation))
        else:
            told_once.append((first + offset, record))
    for name in [name for name in found if _name_refusal(name, limits) is not None]:
        refused[_name_refusal(name, limits) or ""] += len(found.pop(name)[0])
    columns = _columns(found, np.array(steps, np.int64), np.array(at_ms, np.int64))
    last = first + len(records) - 1
    return Batch(request, first, last, columns, lines, evaluations, told_once, rows, refused)


def told(refused: Counter[str]) -> str:
    """The refusals in one sentence; empty where there are none."""
    shown = [f"{reason} ({count} skipped)" for reason, count in refused.most_common(_SHOWN_REASONS)]
    if len(refused) > _SHOWN_REASONS:
        shown.append(f"and {len(refused) - _SHOWN_REASONS} other reasons")
    return "; ".join(shown)


def kind_of(reason: str) -> str:
    """A reason without its numbers: what refusals are counted by, so that there are few."""
    return re.sub(r"\d+", "n", reason.partition(":")[0])


def series_refusal(limits: Limits) -> str:
    return _above("series per job", limits.series_per_job + 1, limits.series_per_job)


def log_chunks(lines: Sequence[pb.Record]) -> Iterator[tuple[int, bytes]]:
    """The lines in runs that fit a row: how many, and their records in order, serialised."""
    run: list[pb.Record] = []
    size = 0
    for line in lines:
        if run and (len(run) == CHUNK_LINES or size > CHUNK_LINE_BYTES):
            yield len(run), pb.ReportRequest(records=run).SerializeToString()
            run, size = [], 0
        run.append(line)
        size += len(line.log_line.text)
    if run:
        yield len(run), pb.ReportRequest(records=run).SerializeToString()


def encode_steps(steps: Integers) -> tuple[int, int, bytes]:
    """Lowest step, highest step, and the column: empty where it follows from both and the number of points."""
    low, high = int(steps.min()), int(steps.max())
    count = len(steps)
    stride, rest = divmod(high - low, count - 1) if count > 1 else (0, 0)
    if not rest and high - low < 1 << 62 and np.array_equal(steps, low + stride * np.arange(count)):
        return low, high, b""
    return low, high, steps.astype("<i8").tobytes()


def encode_times(at_ms: Integers) -> tuple[int, bytes]:
    """First stamp, and the column of offsets from it (int32, or int64 where a clock was set far)."""
    first = int(at_ms[0])
    near = all(abs(int(stamp) - first) <= _INT32_MAX for stamp in (at_ms.min(), at_ms.max()))
    return first, (at_ms - first).astype("<i4" if near else "<i8").tobytes()


def _columns(found: dict[str, tuple[list[float], list[int]]], steps: Integers, at_ms: Integers) -> dict[str, Column]:
    columns = {}
    for name, (values, rows) in found.items():
        if len(rows) == len(steps):
            columns[name] = Column(steps, np.array(values), at_ms)
        else:
            columns[name] = Column(steps[rows], np.array(values), at_ms[rows])
    return columns


def _refusal(record: pb.Record, limits: Limits) -> str | None:
    """Why a record without points is not stored, or None."""
    if record.HasField("log_line"):
        text = record.log_line.text
        if len(text) * 4 > limits.log_line_bytes and len(text.encode()) > limits.log_line_bytes:
            return _above("log line bytes", len(text.encode()), limits.log_line_bytes)
        return None
    evaluation = record.evaluation
    if len(evaluation.metrics) > limits.values_per_record:
        return _above("values per record", len(evaluation.metrics), limits.values_per_record)
    for name in evaluation.metrics:
        if (reason := _name_refusal(name, limits)) is not None:
            return reason
    return refusal(record)


def _name_refusal(name: str, limits: Limits) -> str | None:
    if len(name) > limits.name_length:
        return _above("characters of a series name", len(name), limits.name_length)
    if not name or not name.isprintable():
        return "a series name is empty or has control characters"
    return None


def _above(what: str, value: int, limit: int) -> str:
    return f"{what}: {value} is above the limit of {limit}"
