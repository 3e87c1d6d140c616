"""Appends what a training measures to its spool: one proto-JSON `tether.metrics.v1.Record` a line."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner_agent import clock, spool_budget
from runner_agent.line_file import LineFile
from runner_agent.losses import DISK_FULL, EVALUATIONS, POINTS, PREVIEWS, SPOOL_FULL, Loss, Losses

# Evaluations that wait for a disk that is full.
MOST_KEPT = 200
TELL_INTERVAL_NS = 1_000_000_000


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

    Lines are written whole, with one call. A record that has no room is dropped and told to `lost`, at most once a
    second: a training waits for no disk, and does not fail for its records. Previews go first; points are thinned, then
    dropped; evaluations, and the points that belong to them, stay longest, and are tried again where the disk refuses
    them.
    """

    def __init__(
        self,
        path: Path,
        wall_ms: Callable[[], int],
        lost: Callable[[Loss], None] = lambda _: None,
        boottime_ns: Callable[[], int] = clock.boottime_ns,
    ) -> None:
        """Raises OSError where there cannot be such a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = LineFile(path)
        # Of further processes of a training nothing is kept.
        self._budget = None if path == Path(os.devnull) else spool_budget.Budget(path.parent)
        self._wall_ms = wall_ms
        self._lost = lost
        self._boottime_ns = boottime_ns
        self._thinning, self._points = spool_budget.thinning(), spool_budget.points()
        self._evaluations, self._previews = spool_budget.evaluations(), spool_budget.previews()
        self._thinned = 0
        # Lines that are tried again, with their kinds and moments.
        self._kept: list[tuple[str, int, bytes]] = []
        self._losses = Losses()
        self._told_ns = 0

    def points(self, points: Sequence[tuple[int, int, Mapping[str, float]]], *, precious: bool = False) -> None:
        """Append points, each (wall-clock milliseconds, step, series name → value), in one write."""
        lines = [
            (POINTS, at, _line({"at_ms": at, "points": {"step": step, "values": numbers(to)}}))
            for at, step, to in points
        ]
        self._write(lines, precious=precious)

    def evaluation(self, evaluation: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]] = ()) -> None:
        """Append a `tether.metrics.v1.Evaluation`, with what it says of the preview images where there is room."""
        at_ms = self._wall_ms()
        if predictions:
            line = _line({"at_ms": at_ms, "evaluation": {**evaluation, "predictions": predictions}})
            if self._add_preview(line, at_ms, len(predictions)):
                return
        self._write([(EVALUATIONS, at_ms, _line({"at_ms": at_ms, "evaluation": evaluation}))], precious=True)

    def preview_image(self, image: Mapping[str, Any]) -> None:
        """Append a `tether.metrics.v1.PreviewImage` if there is room."""
        at_ms = self._wall_ms()
        self._add_preview(_line({"at_ms": at_ms, "preview_image": image}), at_ms, 1)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Append `tether.metrics.v1.TrainingFacts`."""
        at_ms = self._wall_ms()
        self._write([(EVALUATIONS, at_ms, _line({"at_ms": at_ms, "facts": facts}))], precious=True)

    def finish(self) -> None:
        """Try once more what the disk refused, and tell what is lost."""
        kept, self._kept = self._kept, []
        self._drop(kept[self._append(kept) :], DISK_FULL)
        self._tell()

    def _add_preview(self, line: bytes, at_ms: int, previews: int) -> bool:
        """Whether the line was written; if not, so many previews are counted as dropped."""
        # What waits for the disk comes first.
        self._write([], precious=True)
        share = 0.0 if self._budget is None else self._budget.share_with(len(line), self._boottime_ns())
        has_room = self._previews.is_open(share)
        if has_room and not self._kept and self._append([(PREVIEWS, at_ms, line)]):
            return True
        self._losses.add(Loss(PREVIEWS, previews, at_ms, at_ms, DISK_FULL if has_room else SPOOL_FULL))
        return False

    def _write(self, lines: list[tuple[str, int, bytes]], *, precious: bool) -> None:
        if self._kept:
            self._kept = self._kept[self._append(self._kept) :]
        if lines:
            admitted = self._admitted(lines, precious=precious)
            refused = admitted[self._append(admitted) :] if not self._kept else admitted
            if precious:
                self._kept += refused
                self._drop(self._kept[:-MOST_KEPT], DISK_FULL)
                self._kept = self._kept[-MOST_KEPT:]
            else:
                self._drop(refused, DISK_FULL)
        if self._losses and self._boottime_ns() - self._told_ns >= TELL_INTERVAL_NS:
            self._tell()

    def _admitted(self, lines: list[tuple[str, int, bytes]], *, precious: bool) -> list[tuple[str, int, bytes]]:
        """Those that the budget has room for; the others are dropped."""
        if self._budget is None:
            return lines
        share = self._budget.share(self._boottime_ns())
        admitted: list[tuple[str, int, bytes]] = []
        # All are asked each time: each remembers whether it is closed.
        thin = not self._thinning.is_open(share)
        if (self._evaluations if precious else self._points).is_open(share):
            admitted = lines if precious or not thin else [line for line in lines if self._one_of_many()]
        kept = {id(line) for line in admitted}
        self._drop([line for line in lines if id(line) not in kept], SPOOL_FULL)
        return admitted

    def _one_of_many(self) -> bool:
        self._thinned += 1
        return self._thinned % spool_budget.THINNED_TO_ONE_IN == 1

    def _append(self, lines: list[tuple[str, int, bytes]]) -> int:
        taken = self._file.append([line for _, _, line in lines])
        if self._budget is not None:
            self._budget.wrote(sum(len(line) for _, _, line in lines[:taken]))
        return taken

    def _drop(self, lines: Sequence[tuple[str, int, bytes]], cause: str) -> None:
        for kind, at_ms, _ in lines:
            self._losses.add(Loss(kind, 1, at_ms, at_ms, cause))

    def _tell(self) -> None:
        self._told_ns = self._boottime_ns()
        for loss in self._losses.take():
            self._lost(loss)


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"
