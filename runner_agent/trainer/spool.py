"""Appends what a training measures to its spool: one proto-JSON `tether.metrics.v1.Record` a line."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def number(value: float) -> float | str:
    """A double as proto JSON writes it: not-a-number and infinities are strings."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def numbers(values: Mapping[str, float]) -> dict[str, float | str]:
    """Every value as proto JSON writes it."""
    return {name: number(value) for name, value in values.items()}


class Spool:
    """An append-only file of records; a record's sequence is its line number, from 1.

    Lines are written whole, with one call. Raises OSError where the disk does not take them.
    """

    def __init__(self, path: Path, wall_ms: Callable[[], int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._wall_ms = wall_ms

    def points(self, points: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Append points, each (wall-clock milliseconds, step, series name → value), in one write."""
        self._write([{"at_ms": at, "points": {"step": step, "values": numbers(to)}} for at, step, to in points])

    def evaluation(
        self, step: int, epoch: int, metrics: Mapping[str, float], matrix: tuple[Sequence[str], Sequence[int]] | None
    ) -> None:
        """Append an evaluation, with its confusion matrix (classes, counts row by row) if there is one."""
        evaluation: dict[str, Any] = {"step": step, "epoch": epoch, "metrics": numbers(metrics)}
        if matrix is not None:
            evaluation["confusion_matrix"] = {"classes": list(matrix[0]), "counts": list(matrix[1])}
        self._write([{"at_ms": self._wall_ms(), "evaluation": evaluation}])

    def _write(self, records: Sequence[Mapping[str, Any]]) -> None:
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
        written = os.write(self._descriptor, lines) if lines else 0
        if written < len(lines):
            # The disk is full or a limit is reached; writing the rest raises the reason, or completes the line.
            os.write(self._descriptor, lines[written:])
