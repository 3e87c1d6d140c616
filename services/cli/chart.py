"""A line chart of braille dots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.words.format import drawable, number

_MIN_WIDTH, _MIN_HEIGHT = 20, 4
# Of the y axis: ticks a row apart are too many, and the numbers want this much room.
_AXIS_WIDTH = 11
_ROWS_A_TICK = 3

# A margin below this would vanish beside the number itself.
_SMALLEST = 1e-300


@dataclass(frozen=True, slots=True)
class Line:
    """A series to be drawn; values that are no number leave a gap."""

    xs: Sequence[float]
    ys: Sequence[float]


def chart(line: Line, width: int, height: int) -> str:
    """The line over its steps with both axes, `width` columns and `height` rows of it; empty without a finite value."""
    import plotille

    finite = [drawable(y) for y in line.ys if math.isfinite(y)]
    if not finite:
        return ""
    columns, rows = max(width - _AXIS_WIDTH, _MIN_WIDTH), max(height - 2, _MIN_HEIGHT)
    low, high = _room(min(finite), max(finite))
    first, last = _room(min(line.xs), max(line.xs))
    canvas = plotille.Canvas(columns, rows, xmin=first, ymin=low, xmax=last, ymax=high)
    points = [(x, drawable(y)) for x, y in zip(line.xs, line.ys, strict=True)]
    if len(points) == 1:
        canvas.point(*points[0])
    for (x0, y0), (x1, y1) in pairwise(points):
        if math.isfinite(y0) and math.isfinite(y1):
            canvas.line(x0, y0, x1, y1)
    drawn = canvas.plot().split("\n")
    return "\n".join([*(_labelled(drawn, low, high)), *_x_axis(first, last, columns)])


def _room(low: float, high: float) -> tuple[float, float]:
    """A range of which both ends differ."""
    if high > low:
        return low, high
    margin = max(abs(low) * 0.05, _SMALLEST) if low else 1.0
    return low - margin, high + margin


def _labelled(rows: Sequence[str], low: float, high: float) -> list[str]:
    last = len(rows) - 1
    labelled = []
    for index, row in enumerate(rows):
        here = index in (0, last) or (index % _ROWS_A_TICK == 0 and last - index >= _ROWS_A_TICK - 1)
        value = _tick(high - (high - low) * index / last) if here else ""
        labelled.append(f"{value:>{_AXIS_WIDTH - 2}} {'┤' if here else '│'}{row}")
    return labelled


def _tick(value: float) -> str:
    shown = number(value)
    return shown if len(shown) <= _AXIS_WIDTH - 2 else f"{value:.2g}"


def _x_axis(first: float, last: float, columns: int) -> list[str]:
    left, middle, right = (f"{value:,.0f}" for value in (first, (first + last) / 2, last))
    gap = columns - len(left) - len(right) - len(middle)
    labels = f"{left}{middle:^{gap + len(middle)}}{right}" if gap >= 2 else f"{right:>{columns}}"
    margin = " " * (_AXIS_WIDTH - 1)
    return [f"{margin}└{'─' * columns}", f"{margin} {labels}"]
