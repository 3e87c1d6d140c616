"""Which rows a group of batches writes, given what the database holds under the spools' locks. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from protos.metrics.v1 import ingest_pb2 as pb
from services.metrics.chunks import (
    Batch,
    Column,
    encode_steps,
    encode_times,
    kind_of,
    log_chunks,
    read_batch,
    series_refusal,
    skip_of,
    told,
)
from services.metrics.limits import Limits
from services.metrics.merging import MERGE_EVERY
from services.metrics.rate import Room, admit

# Attempt and spool.
SpoolKey = tuple[str, str]
# Spool id and name.
SeriesKey = tuple[int, str]

CHUNK_COLUMNS = (
    "spool_id",
    "sequence",
    "series_id",
    "points",
    "first_step",
    "last_step",
    "first_at_ms",
    "steps",
    "values",
    "at_ms",
)
LOG_COLUMNS = ("spool_id", "last_line", "lines", "records")
MERGE_COLUMNS = ("spool_id", "after", "up_to")
EVALUATION_COLUMNS = ("spool_id", "sequence", "step", "evaluation", "matrix", "predictions")
PREVIEW_COLUMNS = ("spool_id", "sequence", "number", "image")
FACTS_COLUMNS = ("spool_id", "sequence", "facts")


@dataclass(frozen=True, slots=True)
class Spool:
    """A spool's high-water row."""

    spool_id: int
    sequence: int
    lines: int
    refused: int
    # Of the limit of points per second; None before the first point.
    room: Room | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What a batch is answered after the commit."""

    acknowledged_sequence: int
    refused: str


class Plan:
    """Takes batches in the order in which they came; `series` are the known series of their jobs, by job."""

    def __init__(
        self,
        spools: Mapping[SpoolKey, Spool],
        series: Mapping[str, Mapping[SeriesKey, int]],
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._before = spools
        self._spools = dict(spools)
        self._series = series
        # Names of the jobs that get a new series.
        self._names: dict[str, set[str]] = {}
        # Job, spool id, sequence, name, points.
        self._columns: list[tuple[str, int, int, str, Column]] = []
        # Series that this group begins, in order, with their jobs.
        self.new_series: dict[SeriesKey, str] = {}
        self.log_rows: list[tuple[Any, ...]] = []
        self.evaluation_rows: list[tuple[Any, ...]] = []
        self.preview_rows: list[tuple[Any, ...]] = []
        self.facts_rows: list[tuple[Any, ...]] = []
        # By spool id: reason → how many.
        self._refused: dict[int, Counter[str]] = {}

    def add(self, batch: Batch) -> Stored:
        """Take what is new of a batch. A repeat changes nothing; after a gap nothing is taken."""
        request = batch.request
        key = (request.attempt_id, request.spool)
        spool = self._spools[key]
        records = batch.last_sequence + 1 - batch.first_sequence
        skip = skip_of(batch.first_sequence, records, spool.sequence, request.earlier_lost)
        if skip is None or skip == records:
            return Stored(spool.sequence, "")
        if skip:
            batch = read_batch(request, skip, self._limits)
        room, too_fast = admit(spool.room, batch.rows, self._limits.points_per_s)
        if too_fast:
            batch = read_batch(request, skip, self._limits, too_fast)
        refused = Counter(batch.refused)
        for name, column in batch.columns.items():
            if self._admit(request.job_id, spool.spool_id, name):
                self._columns.append((request.job_id, spool.spool_id, batch.last_sequence, name, column))
            else:
                refused[series_refusal(self._limits)] += len(column.values)
        lines = spool.lines
        for count, serialised in log_chunks(batch.lines):
            lines += count
            self.log_rows.append((spool.spool_id, lines, count, serialised))
        for sequence, evaluation in batch.evaluations:
            self.evaluation_rows.append((spool.spool_id, sequence, evaluation.step, *_apart(evaluation)))
        for sequence, record in batch.told_once:
            if record.HasField("facts"):
                self.facts_rows.append((spool.spool_id, sequence, record.facts.SerializeToString()))
            else:
                image = record.preview_image
                self.preview_rows.append((spool.spool_id, sequence, image.number, image.SerializeToString()))
        self._spools[key] = replace(
            spool, sequence=batch.last_sequence, lines=lines, refused=spool.refused + refused.total(), room=room
        )
        self._refused.setdefault(spool.spool_id, Counter()).update(refused)
        return Stored(batch.last_sequence, told(refused))

    def _admit(self, job_id: str, spool_id: int, name: str) -> bool:
        """Whether the series exists, or may begin. A name counts once a job, whichever attempt reports it."""
        key = (spool_id, name)
        if key in self._series[job_id] or key in self.new_series:
            return True
        if job_id not in self._names:
            self._names[job_id] = {known for _, known in self._series[job_id]}
        names = self._names[job_id]
        if name not in names and len(names) >= self._limits.series_per_job:
            return False
        names.add(name)
        self.new_series[key] = job_id
        return True

    @property
    def changed_spools(self) -> Sequence[Spool]:
        return [spool for key, spool in self._spools.items() if spool != self._before[key]]

    @property
    def refusal_rows(self) -> list[tuple[int, str, str, int]]:
        """By spool and kind: spool id, kind, the last reason in full, and how many."""
        rows: dict[tuple[int, str], tuple[str, int]] = {}
        for spool_id, refused in self._refused.items():
            for reason, count in refused.items():
                key = (spool_id, kind_of(reason))
                rows[key] = (reason, count + rows.get(key, ("", 0))[1])
        return [(spool_id, kind, reason, count) for (spool_id, kind), (reason, count) in sorted(rows.items())]

    @property
    def merge_rows(self) -> list[tuple[Any, ...]]:
        """Rows of the table `merges`: spools that have passed the end of a stretch."""
        rows = []
        for key, spool in self._spools.items():
            before = self._before[key]
            of_log = spool.lines > before.lines
            after, up_to = (before.lines, spool.lines) if of_log else (before.sequence, spool.sequence)
            if after // MERGE_EVERY < up_to // MERGE_EVERY:
                rows.append((spool.spool_id, after, up_to))
        return rows

    def chunk_rows(self, new_ids: Mapping[SeriesKey, int]) -> list[tuple[Any, ...]]:
        """Rows of the table `chunks`; `new_ids` are the ids of `new_series`."""
        rows = []
        for job_id, spool_id, sequence, name, column in self._columns:
            first_step, last_step, steps = encode_steps(column.steps)
            first_at_ms, at_ms = encode_times(column.at_ms)
            rows.append(
                (
                    spool_id,
                    sequence,
                    self._id(job_id, (spool_id, name), new_ids),
                    len(column.values),
                    first_step,
                    last_step,
                    first_at_ms,
                    steps,
                    column.values.astype("<f8").tobytes(),
                    at_ms,
                )
            )
        return rows

    def growth(self, new_ids: Mapping[SeriesKey, int]) -> list[tuple[int, int, int, int, float]]:
        """By series: its id, points more, lowest and highest step among them, and the value that came last."""
        grown: dict[int, tuple[int, int, int, int, float]] = {}
        for job_id, spool_id, _, name, column in self._columns:
            series_id = self._id(job_id, (spool_id, name), new_ids)
            points, low, high = len(column.values), int(column.steps.min()), int(column.steps.max())
            if (before := grown.get(series_id)) is not None:
                points, low, high = points + before[1], min(low, before[2]), max(high, before[3])
            grown[series_id] = (series_id, points, low, high, float(column.values[-1]))
        return list(grown.values())

    def _id(self, job_id: str, key: SeriesKey, new_ids: Mapping[SeriesKey, int]) -> int:
        known = self._series[job_id]
        return known[key] if key in known else new_ids[key]


def _apart(evaluation: pb.Evaluation) -> tuple[bytes, bytes | None, bytes | None]:
    """The evaluation, its matrix and its predictions: lists of evaluations never load the latter two."""
    # A copy: the transaction may have to be repeated with the same batch.
    bare = pb.Evaluation()
    bare.CopyFrom(evaluation)
    bare.ClearField("confusion_matrix")
    bare.ClearField("predictions")
    matrix = evaluation.confusion_matrix.SerializeToString() if evaluation.HasField("confusion_matrix") else None
    predictions = pb.Evaluation(predictions=evaluation.predictions).SerializeToString()
    return bare.SerializeToString(), matrix, predictions or None
