"""Reads the series that advice follows from as means, which a reduction that keeps extremes cannot tell."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from services.metrics.history import Curve
from services.metrics.query import HIGHEST_STEP, LOWEST_STEP, blocks, last_counting, list_series
from services.metrics.series import Chunk, by_step, decode
from services.postgres import Connection

# Runs of one name, about: with a sample each 5 s each point of the first 2 h 46 min is told.
_RUNS = 2000


async def read_curves(connection: Connection, job_id: str, names: Sequence[str]) -> dict[str, Curve]:
    """By name: the attempts' points one after another, without those that a later attempt has made again.

    Memory is bounded by a block of points, not by the series.
    """
    wanted = await list_series(connection, job_id, names)
    points = Counter[str]()
    for row in wanted:
        points[row.name] += row.points
    widths = {row.series_id: max(-(-points[row.name] // _RUNS), 1) for row in wanted}
    last_steps = last_counting(wanted)
    parts: dict[int, list[Curve]] = {}
    async for series_id, chunks in blocks(connection, [row.series_id for row in wanted], LOWEST_STEP, HIGHEST_STEP):
        last_step = last_steps.get(series_id, HIGHEST_STEP)
        curve = await asyncio.to_thread(_curve, chunks, last_step, widths[series_id])
        if len(curve.steps):
            parts.setdefault(series_id, []).append(curve)
    found: dict[str, list[Curve]] = {}
    for row in wanted:
        found.setdefault(row.name, []).extend(parts.get(row.series_id, ()))
    return {name: Curve.joined(curves) for name, curves in found.items() if curves}


def _curve(chunks: Sequence[Chunk], last_step: int, width: int) -> Curve:
    points = by_step(decode(chunks))
    points = points.take(points.steps <= last_step)
    return Curve.of(points.steps, points.values, width)
