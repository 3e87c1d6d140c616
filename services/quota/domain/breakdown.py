"""The minutes of one month by day, runner, GPU type, job, person or workflow. Rows add up to the whole exactly.

An attempt's charge is (until − from) × rate, so it is split wherever its time or its rate is: a day takes its share of
the time, and a GPU type its share of the rate. That one is

    rate of a type = rate × Σ multipliers of its GPUs / Σ multipliers of all GPUs of the attempt

in whole millionths, what is left by largest remainder (`sharing.share`). It is shared once for an attempt and not for
each of its days, months and lapses, so that their sums agree however they are taken.

What was adjusted belongs to the job that the adjustment names: to its person, its workflow, and the runner and the GPUs
of its last attempt. It belongs to a month and to no day. What names no job is a row with an empty key.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from protos.quota.v1.quota_pb2 import UsageGrouping
from services.quota.domain.attempt import Attempt, interval
from services.quota.domain.lapses import Lapse, LinkChange, lapses
from services.quota.domain.minutes import bounds
from services.quota.domain.sharing import share, shared_rate

# An answer has at most so many rows; the smallest beyond them are one row, `OTHERS`.
MAX_ROWS = 1000
OTHERS = "*"
# GPUs of an event that does not list any.
UNKNOWN_GPU = "unknown"

_DAY_MS = 86_400_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()

Gpus = tuple[tuple[str, int], ...]


class JobFacts(NamedTuple):
    """Whose a job is."""

    job_id: str
    name: str
    # Who submitted it.
    person: str
    workflow: str
    workflow_name: str


class Part(NamedTuple):
    """One attempt of a job, with what its charge does not depend on."""

    attempt: Attempt
    # Product name → sum of multipliers, millionths.
    gpus: Gpus
    links: Sequence[LinkChange]


@dataclass(slots=True)
class Row:
    """One key's share, in ms × millionths."""

    key: str
    name: str = ""
    ms_micros: int = 0
    cut_off_ms_micros: int = 0
    jobs: int = 0


class _Piece(NamedTuple):
    """A stretch of an attempt: key and name of its row, time in ms, of it cut off, rate."""

    key: str
    name: str
    ms: int
    cut_off_ms: int
    rate_micros: int


@dataclass(slots=True)
class Breakdown:
    """Add every job that was charged in the month, each once with all its attempts; then take the rows."""

    grouping: UsageGrouping.ValueType
    period: str
    # Running attempts count up to here.
    now_ms: int
    _rows: dict[str, Row] = field(default_factory=dict)
    _pieces: "Callable[[JobFacts, Part, int, int], Iterator[_Piece]]" = field(init=False)
    _start_ms: int = field(init=False)
    _end_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self._pieces = _splitter(self.grouping)
        self._start_ms, self._end_ms = bounds(self.period)

    def add(self, job: JobFacts, parts: Sequence[Part], adjusted: int = 0) -> None:
        """One job, its attempts in order; `adjusted` is what was adjusted in the month for it, in ms × millionths."""
        counted: set[str] = set()
        for part in parts:
            known = interval(part.attempt, self.now_ms)
            from_ms, until_ms = max(known.started_at_ms, self._start_ms), min(known.charged_until_ms, self._end_ms)
            accrues = part.attempt.running and from_ms == until_ms < self._end_ms
            if not known.started_at_ms or (from_ms >= until_ms and not accrues):
                continue
            for piece in self._pieces(job, part, from_ms, until_ms):
                row = self._row(piece.key, piece.name)
                row.ms_micros += piece.ms * piece.rate_micros
                row.cut_off_ms_micros += piece.cut_off_ms * piece.rate_micros
                if piece.key not in counted:
                    counted.add(piece.key)
                    row.jobs += 1
        if adjusted:
            for key, name, amount in _adjusted(self.grouping, job, parts, adjusted):
                self._row(key, name).ms_micros += amount

    def adjust(self, ms_micros: int) -> None:
        """What was adjusted in the month without naming a job."""
        if ms_micros:
            self._row("", "").ms_micros += ms_micros

    def rows(self) -> list[Row]:
        """Largest first; days in order. At most MAX_ROWS."""
        found = list(self._rows.values())
        largest = sorted(found, key=lambda row: (-row.ms_micros, row.key))
        if len(largest) > MAX_ROWS:
            named, unnamed = [row for row in largest if row.key], [row for row in largest if not row.key]
            kept = named[: MAX_ROWS - 1 - len(unnamed)]
            largest = [*kept, *unnamed, _others(named[len(kept) :])]
        if self.grouping == UsageGrouping.USAGE_GROUPING_DAY:
            largest.sort(key=lambda row: (not row.key, row.key))
        return largest

    def _row(self, key: str, name: str) -> Row:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = Row(key)
        if name and name != key:
            row.name = name
        return row


def _others(rows: Sequence[Row]) -> Row:
    return Row(
        OTHERS,
        f"{len(rows):,} more",
        sum(row.ms_micros for row in rows),
        sum(row.cut_off_ms_micros for row in rows),
        sum(row.jobs for row in rows),
    )


def _splitter(grouping: UsageGrouping.ValueType) -> "Callable[[JobFacts, Part, int, int], Iterator[_Piece]]":
    if grouping == UsageGrouping.USAGE_GROUPING_DAY:
        return _by_day
    if grouping == UsageGrouping.USAGE_GROUPING_GPU_TYPE:
        return _by_gpu_type
    return lambda job, part, from_ms, until_ms: _whole(grouping, job, part, from_ms, until_ms)


def _whole(
    grouping: UsageGrouping.ValueType, job: JobFacts, part: Part, from_ms: int, until_ms: int
) -> Iterator[_Piece]:
    key, name = _key(grouping, job, part)
    cut_off_ms = _cut_off_ms(lapses(part.links, from_ms, until_ms), from_ms, until_ms)
    yield _Piece(key, name, until_ms - from_ms, cut_off_ms, part.attempt.rate_micros)


def _by_gpu_type(job: JobFacts, part: Part, from_ms: int, until_ms: int) -> Iterator[_Piece]:
    ms = until_ms - from_ms
    cut_off_ms = _cut_off_ms(lapses(part.links, from_ms, until_ms), from_ms, until_ms)
    for gpu_type, rate_micros in shared_rate(part.attempt.rate_micros, _gpus(part)):
        yield _Piece(gpu_type, "", ms, cut_off_ms, rate_micros)


def _by_day(job: JobFacts, part: Part, from_ms: int, until_ms: int) -> Iterator[_Piece]:
    found = lapses(part.links, from_ms, until_ms)
    for day in range(from_ms // _DAY_MS, max(until_ms - 1, from_ms) // _DAY_MS + 1):
        start_ms, end_ms = max(from_ms, day * _DAY_MS), min(until_ms, (day + 1) * _DAY_MS)
        cut_off_ms = _cut_off_ms(found, start_ms, end_ms)
        yield _Piece(_day(day), "", end_ms - start_ms, cut_off_ms, part.attempt.rate_micros)


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return date.fromordinal(_EPOCH_DAY + number).isoformat()


def _cut_off_ms(found: Iterable[Lapse], from_ms: int, until_ms: int) -> int:
    return sum(max(min(lapse.to_ms, until_ms) - max(lapse.from_ms, from_ms), 0) for lapse in found)


def _gpus(part: Part) -> Gpus:
    return part.gpus or ((UNKNOWN_GPU, 1),)


def _key(grouping: UsageGrouping.ValueType, job: JobFacts, part: Part | None) -> tuple[str, str]:
    """Key and name of the row, for the groupings in which a job's attempt has one; empty where it has none."""
    match grouping:
        case UsageGrouping.USAGE_GROUPING_RUNNER:
            assigned = part.attempt.assigned if part is not None else None
            return (assigned.runner_id, assigned.runner_name) if assigned is not None else ("", "")
        case UsageGrouping.USAGE_GROUPING_JOB:
            return job.job_id, job.name
        case UsageGrouping.USAGE_GROUPING_PERSON:
            return job.person, ""
        case UsageGrouping.USAGE_GROUPING_WORKFLOW:
            return job.workflow, job.workflow_name
        case _:
            return "", ""


def _adjusted(
    grouping: UsageGrouping.ValueType, job: JobFacts, parts: Sequence[Part], amount: int
) -> Iterator[tuple[str, str, int]]:
    last = parts[-1] if parts else None
    if grouping == UsageGrouping.USAGE_GROUPING_GPU_TYPE and last is not None:
        for gpu_type, part in share(amount, dict(_gpus(last))).items():
            yield gpu_type, "", part
    else:
        yield *_key(grouping, job, last), amount
