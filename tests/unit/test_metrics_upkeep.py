"""Laws of merging, of the limit of points per second, and of searching in logs."""

import itertools
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.metrics.v1 import ingest_pb2
from services.metrics.chunks import kind_of, log_chunks, read_batch
from services.metrics.limits import Limits
from services.metrics.log_search import Range, Search, lines_of, plain
from services.metrics.merging import (
    MERGE_EVERY,
    MERGE_FAR,
    MERGED_COLUMNS,
    Cursor,
    merged,
    runs,
    stretches,
)
from services.metrics.plan import CHUNK_COLUMNS, Plan, Spool
from services.metrics.rate import Room, admit
from services.metrics.series import decode
from tests.support.metrics_service import ATTEMPT, JOB, batch, line, point

Chunk = dict[str, Any]
SERIES = {"a": 1, "b": 2, "c": 3}


def stored(records: list[ingest_pb2.Record], sizes: list[int]) -> list[Chunk]:
    """The chunks of batches of these sizes."""
    plan = Plan({(ATTEMPT, "trainer"): Spool(1, 0, 0, 0)}, {JOB: {}}, Limits())
    first = 1
    for size in sizes:
        plan.add(read_batch(batch(first, records[first - 1 : first - 1 + size]), 0, Limits()))
        first += size
    rows = plan.chunk_rows({(1, name): series_id for name, series_id in SERIES.items()})
    return [{**dict(zip(CHUNK_COLUMNS, row, strict=True)), "parts": None} for row in rows]


def merge(chunks: list[Chunk], first: int, last: int) -> list[Chunk]:
    """What the upkeep makes of the chunks of one stretch, in the order of the primary key."""
    inside = [chunk for chunk in chunks if first < chunk["sequence"] <= last]
    rest = [chunk for chunk in chunks if chunk not in inside]
    for series_id in sorted({chunk["series_id"] for chunk in inside}):
        of_series = sorted(
            (chunk for chunk in inside if chunk["series_id"] == series_id), key=lambda chunk: int(chunk["sequence"])
        )
        row = merged(of_series, max(chunk["sequence"] for chunk in inside))
        rest.append(dict(zip(MERGED_COLUMNS, row, strict=True)))
    return sorted(rest, key=lambda chunk: (chunk["sequence"], chunk["series_id"]))


@given(st.integers(0, 40_000), st.lists(st.integers(1, 20_000), min_size=1, max_size=6))
def test_every_stretch_is_merged_once_however_the_spool_grows(start: int, growth: list[int]) -> None:
    short, far, at = [], [], 0
    for more in [start, *growth]:
        for first, last in stretches(at, at + more):
            assert last - first in (MERGE_EVERY, MERGE_FAR)
            assert last % (last - first) == 0
            (far if last - first == MERGE_FAR else short).append(last)
        at += more
    assert far == list(range(MERGE_FAR, at + 1, MERGE_FAR))
    assert short == sorted(set(short))
    assert set(range(at // MERGE_FAR * MERGE_FAR + MERGE_EVERY, at + 1, MERGE_EVERY)) <= set(short)


@pytest.mark.parametrize("seed", range(150))
def test_a_reader_with_a_cursor_gets_each_point_once_and_in_order_whatever_is_merged_meanwhile(seed: int) -> None:
    # Stretches of 8 and 32 records here; the law is the same.
    chosen = random.Random(seed)
    sizes = [chosen.randint(1, 12) for _ in range(chosen.randint(1, 16))]
    ends = list(itertools.accumulate(sizes, initial=0))
    named = [chosen.sample("abc", chosen.randint(0, 3)) for _ in range(ends[-1])]
    records = [point(step, **dict.fromkeys(names, float(step))) for step, names in enumerate(named, 1)]
    chunks = sorted(stored(records, sizes), key=lambda chunk: (chunk["sequence"], chunk["series_id"]))
    # A look ends where the spool's high-water was.
    begin, up_to = sorted(chosen.choices(ends, k=2))
    pending = [(end - length, end) for length in (8, 32) for end in range(length, ends[-1] + 1, length)]
    got: dict[int, list[int]] = {series_id: [] for series_id in SERIES.values()}
    cursor = Cursor.after(begin)
    while True:
        for _ in range(chosen.choice((0, 0, 1, 3, len(pending)))):
            if pending:
                chunks = merge(chunks, *pending.pop(0))
        last = min((c["sequence"] for c in chunks if c["sequence"] >= up_to), default=up_to)
        behind = [c for c in chunks if (cursor.sequence, cursor.series_id) < (c["sequence"], c["series_id"])]
        page = [c for c in behind if c["sequence"] <= last][: chosen.randint(1, 4)]
        if not page:
            break
        for chunk in page:
            first, end = cursor.untold(chunk, up_to)
            got[chunk["series_id"]] += decode([chunk]).steps[first:end].tolist()
        cursor = cursor.behind(page)
    for name, series_id in SERIES.items():
        assert got[series_id] == [step for step in range(begin + 1, up_to + 1) if name in named[step - 1]]


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 90_000)), max_size=40))
def test_log_chunks_are_merged_as_far_as_one_chunk_may_be(chunks: list[tuple[int, int]]) -> None:
    found = runs(chunks)
    assert all(one.stop <= other.start for one, other in itertools.pairwise(found))
    for run in found:
        assert len(run) > 1
        assert sum(lines for lines, _ in chunks[run.start : run.stop]) <= 1000
        assert sum(size for _, size in chunks[run.start : run.stop]) <= 256 << 10


ROWS = st.lists(st.tuples(st.integers(-500, 2500), st.integers(1, 60)), max_size=40)


@given(ROWS, st.lists(st.integers(1, 8), max_size=20), st.integers(1, 20))
def test_the_same_records_are_admitted_however_they_are_cut_into_batches(
    gaps: list[tuple[int, int]], sizes: list[int], points_per_s: int
) -> None:
    at_ms, rows = 0, []
    for sequence, (gap_ms, points) in enumerate(gaps, 1):
        at_ms += gap_ms
        rows.append((sequence, at_ms, points))
    whole, refused = admit(None, rows, points_per_s)
    room: Room | None = None
    beyond: set[int] = set()
    at = 0
    for size in [*sizes, len(rows)]:
        room, some = admit(room, rows[at : at + size], points_per_s)
        beyond |= some
        at += size
    assert (room, beyond) == (whole, refused)


@given(ROWS, st.integers(1, 20))
def test_no_more_is_admitted_than_the_burst_and_what_the_time_allows(
    gaps: list[tuple[int, int]], points_per_s: int
) -> None:
    at_ms, rows = 0, []
    for sequence, (gap_ms, points) in enumerate(gaps, 1):
        at_ms += abs(gap_ms)
        rows.append((sequence, at_ms, points))
    _, refused = admit(None, rows, points_per_s)
    taken = [(at, points) for sequence, at, points in rows if sequence not in refused]
    for begin in range(len(taken)):
        for end in range(begin, len(taken)):
            seconds = (taken[end][0] - taken[begin][0]) / 1000
            assert sum(points for _, points in taken[begin : end + 1]) <= points_per_s * (10 + seconds) + 1e-6


def test_hours_that_were_held_back_by_an_outage_are_no_flood() -> None:
    rows = [(step, step * 50, 10) for step in range(1, 100_000)]
    assert admit(None, rows, 200)[1] == frozenset()
    assert len(admit(None, rows, 100)[1]) > 40_000


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("series per job: 1001 is above the limit of 1000", "series per job"),
        (
            "a confusion matrix of 12 classes has 144 counts, not 2",
            "a confusion matrix of n classes has n counts, not n",
        ),
    ],
)
def test_refusals_are_counted_by_what_they_are_about(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind


COLOUR = st.sampled_from(["\x1b[31m", "\x1b[0m", "\x1b[1;38;5;200m", "\x1b]0;title\x07", "\x1b(B"])
TEXT = st.text(st.sampled_from("aAbBkKıİK ſßé1."), max_size=12)


@given(st.lists(st.lists(TEXT | COLOUR, max_size=4), min_size=1, max_size=8), TEXT)
def test_a_search_finds_exactly_the_lines_that_show_the_text(parts: list[list[str]], text: str) -> None:
    lines = ["".join(pieces) for pieces in parts]
    shown = ["".join(piece for piece in pieces if not piece.startswith("\x1b")) for pieces in parts]
    assert [plain(one) for one in lines] == shown
    chunk = ingest_pb2.ReportRequest(records=[line(one) for one in lines]).SerializeToString()
    found = [number for number, _ in lines_of(chunk, 1, Range(0, len(lines)), Search(text))]
    assert found == [number for number, one in enumerate(shown, 1) if text.lower() in one.lower()]


def test_chunks_of_lines_joined_are_one_chunk_with_all_lines() -> None:
    records = [line(f"{number} " + "x" * 400) for number in range(2500)]
    chunks = list(log_chunks(records))
    assert len(chunks) > 2
    joined = ingest_pb2.ReportRequest.FromString(b"".join(chunk for _, chunk in chunks))
    assert [re.split(" ", one.log_line.text)[0] for one in joined.records] == [str(number) for number in range(2500)]
