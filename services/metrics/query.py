"""Reads series from PostgreSQL, reduced on the way: memory is bounded by a block, not by the series."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from protos.metrics.v1 import metrics_pb2 as pb
from services.metrics.merging import Cursor
from services.metrics.series import MIN_POINTS, Chunk, Points, by_step, concatenate, decode, decode_reduced, reduce
from services.postgres import Connection, Pool

LOWEST_STEP, HIGHEST_STEP = -(1 << 63), (1 << 63) - 1

# Points of one response over all series: about 10 MiB as protobuf, below the limit of a message.
MAX_RESPONSE_POINTS = 400_000
# Points that are decoded and reduced together.
_BLOCK_POINTS = 1_000_000
# Below this a thread costs more than it saves.
_INLINE_POINTS = 20_000
_FETCH_ROWS = 256
# With merged chunks a page of some ten megabytes.
_WATCH_ROWS = 128


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series of one spool of one attempt."""

    series_id: int
    name: str
    points: int
    first_step: int
    last_step: int
    last_value: float
    spool_id: int
    # Its steps are those of the optimiser, which the attempts of a job share.
    of_trainer: bool


async def list_series(connection: Connection | Pool, job_id: str, names: Sequence[str] = ()) -> list[SeriesRow]:
    """By name; series of the same name in the order of their attempts."""
    rows = await connection.fetch(
        "select r.series_id, r.name, r.points, r.first_step, r.last_step, r.last_value, s.spool_id, "
        "s.spool = 'trainer' as of_trainer "
        "from metrics.spools s join metrics.series r using (spool_id) "
        "where s.job_id = $1 and (cardinality($2::text[]) = 0 or r.name = any($2)) "
        "order by r.name, s.assigned_position, s.spool_id",
        job_id,
        list(names),
    )
    return [SeriesRow(*row.values()) for row in rows]


def replaced_from(rows: Sequence[SeriesRow]) -> dict[int, int]:
    """Series id → the step from which on a later attempt has made the steps again. Pure.

    `rows` as `list_series` orders them; series that nothing replaces are left out. Of two attempts the later one wins
    from the first step that it has measured.
    """
    found: dict[int, int] = {}
    first: dict[str, int] = {}
    for row in reversed(rows):
        if not row.of_trainer or not row.points:
            continue
        if row.name in first:
            found[row.series_id] = first[row.name]
        first[row.name] = min(row.first_step, first.get(row.name, row.first_step))
    return found


def last_counting(rows: Sequence[SeriesRow]) -> dict[int, int]:
    """Series id → the last step that no later attempt has made again; as `replaced_from`."""
    return {series_id: step - 1 for series_id, step in replaced_from(rows).items()}


async def query(
    connection: Connection,
    job_id: str,
    names: Sequence[str],
    max_points: int,
    from_step: int = LOWEST_STEP,
    to_step: int = HIGHEST_STEP,
) -> list[pb.Series]:
    """Series by name, each the attempts' points one after another, each attempt's by step, reduced to `max_points`.

    Of an attempt that a later one repeats, only the points before that one's first are told.
    Where all series together would pass MAX_RESPONSE_POINTS, each gets fewer. Empty series are left out.
    """
    wanted = await list_series(connection, job_id, names)
    if not wanted:
        return []
    max_points = max(min(max_points, MAX_RESPONSE_POINTS // len({row.name for row in wanted})), MIN_POINTS)
    parts: dict[int, Points] = {}
    last_steps = last_counting(wanted)
    async for series_id, chunks in blocks(connection, [row.series_id for row in wanted], from_step, to_step):
        last_step = min(to_step, last_steps.get(series_id, HIGHEST_STEP))
        parts[series_id] = await _fold(parts.get(series_id), chunks, max_points, from_step, last_step)
    found: dict[str, list[Points]] = {}
    for row in wanted:
        if len(parts.get(row.series_id, ())):
            found.setdefault(row.name, []).append(parts.pop(row.series_id))
    return [reduce(concatenate(points), max_points).to_proto(name) for name, points in found.items()]


async def blocks(
    connection: Connection, series_ids: list[int], from_step: int, to_step: int
) -> AsyncIterator[tuple[int, list[Chunk]]]:
    """The chunks that reach into the range, series by series, each series' by first step, a block at a time."""
    # The index gives them in order; sorting them would copy every chunk, to disk where they are many.
    await connection.execute("set local enable_sort = off; set local enable_bitmapscan = off")
    cursor = await connection.cursor(
        "select series_id, points, first_step, last_step, first_at_ms, steps, values, at_ms from metrics.chunks "
        "where series_id = any($1::bigint[]) and first_step <= $3 and last_step >= $2 "
        "order by series_id, first_step, sequence",
        series_ids,
        from_step,
        to_step,
    )
    block: list[Chunk] = []
    series_id = points = 0
    while rows := await cursor.fetch(_FETCH_ROWS):
        for row in rows:
            if block and (row["series_id"] != series_id or points >= _BLOCK_POINTS):
                yield series_id, block
                block, points = [], 0
            series_id = row["series_id"]
            block.append(row)
            points += row["points"]
    if block:
        yield series_id, block


async def _fold(reduced: Points | None, chunks: list[Chunk], max_points: int, from_step: int, to_step: int) -> Points:
    """What was reduced of a series so far and more chunks, reduced."""

    def work() -> Points:
        fresh = decode_reduced(chunks, max_points, from_step, to_step)
        return fresh if reduced is None else reduce(by_step(concatenate([reduced, fresh])), max_points)

    points: int = sum(chunk["points"] for chunk in chunks)
    return work() if points <= _INLINE_POINTS else await asyncio.to_thread(work)


class PointSpool(NamedTuple):
    """A spool with points, and up to where it is stored."""

    spool_id: int
    attempt_id: str
    sequence: int


async def point_spools(connection: Connection | Pool, job_id: str) -> list[PointSpool]:
    """The job's spools with points, in the order of the attempts."""
    rows = await connection.fetch(
        "select spool_id, attempt_id, sequence from metrics.spools where job_id = $1 and spool <> 'log' "
        "order by assigned_position, spool_id",
        job_id,
    )
    return [PointSpool(*row.values()) for row in rows]


async def high_waters(connection: Connection | Pool, job_id: str) -> dict[int, int]:
    """Spool id → sequence up to which it is stored, as `point_spools`."""
    return {spool.spool_id: spool.sequence for spool in await point_spools(connection, job_id)}


async def refusals(pool: Pool, job_id: str) -> tuple[list[pb.Refusal], int]:
    """What was refused of a job, the most first, and when its points and lines were removed (Unix milliseconds)."""
    rows = await pool.fetch(
        "select (array_agg(r.reason))[1] as reason, sum(r.refused)::bigint as refused "
        "from metrics.spools s join metrics.refusals r using (spool_id) "
        "where s.job_id = $1 group by r.kind order by refused desc, r.kind",
        job_id,
    )
    removed_at_ms: int | None = await pool.fetchval(
        "select (extract(epoch from max(removed_at)) * 1000)::bigint from metrics.spools where job_id = $1", job_id
    )
    return [pb.Refusal(reason=row["reason"], count=row["refused"]) for row in rows], removed_at_ms or 0


async def points_after(
    pool: Pool, spool_id: int, sequence: int, up_to: int, names: Sequence[str], replaced: Mapping[int, int]
) -> AsyncIterator[list[pb.Series]]:
    """What a spool got after `sequence`, up to and with `up_to`, in the order of arrival, in pieces that fit a
    response. `replaced` as `replaced_from` gives it: what lies behind is left out."""
    cursor = Cursor.after(sequence)
    while True:
        rows = await pool.fetch(
            "select c.sequence, c.series_id, r.name, c.points, c.first_step, c.last_step, c.first_at_ms, c.steps, "
            "c.values, c.at_ms, c.parts "
            "from metrics.chunks c join metrics.series r using (series_id) "
            "where c.spool_id = $1 and (c.sequence, c.series_id) > ($2, $3) "
            # The chunk that the end lies in may have been merged with later ones.
            "and c.sequence <= (select coalesce(min(e.sequence), $4) from metrics.chunks e "
            "where e.spool_id = $1 and e.sequence >= $4) "
            "and (cardinality($5::text[]) = 0 or r.name = any($5)) "
            "order by c.sequence, c.series_id limit $6",
            spool_id,
            cursor.sequence,
            cursor.series_id,
            up_to,
            list(names),
            _WATCH_ROWS,
        )
        chunks: dict[str, list[Points]] = {}
        points = 0
        for row in rows:
            if points + row["points"] > MAX_RESPONSE_POINTS:
                yield _told(chunks)
                chunks, points = {}, 0
            begin, end = cursor.untold(row, up_to)
            if begin < end and row["first_step"] < replaced.get(row["series_id"], HIGHEST_STEP):
                chunks.setdefault(row["name"], []).append(_decoded(row, begin, end, replaced))
                points += end - begin
        if chunks:
            yield _told(chunks)
        if len(rows) < _WATCH_ROWS:
            return
        cursor = cursor.behind(rows)


def _decoded(chunk: Chunk, begin: int, end: int, replaced: Mapping[int, int]) -> Points:
    points = decode([chunk]).take(np.arange(begin, end))
    from_step = replaced.get(chunk["series_id"])
    return points if from_step is None else points.take(points.steps < from_step)


def _told(chunks: Mapping[str, Sequence[Points]]) -> list[pb.Series]:
    return [concatenate(points).to_proto(name) for name, points in chunks.items()]
