"""Chunks become series again: decoding, merging by step, and the reduction that loses no extreme. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tsdownsample import MinMaxDownsampler

from protos.metrics.v1 import metrics_pb2 as pb

# The first, last, lowest and highest point and the first NaN always fit, and one bucket's extremes.
MIN_POINTS = 8
_KEPT_APART = 5

_MIN_MAX = MinMaxDownsampler()  # type: ignore[no-untyped-call]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Chunk(Protocol):
    """A row of the table `chunks`; its columns are described in the migration."""

    def __getitem__(self, column: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one series; all arrays have the same length."""

    steps: Integers
    values: Floats
    at_ms: Integers

    def __len__(self) -> int:
        return len(self.steps)

    def take(self, chosen: npt.NDArray[Any]) -> "Points":
        """The chosen points: indices or a mask."""
        return Points(self.steps[chosen], self.values[chosen], self.at_ms[chosen])

    def to_proto(self, name: str) -> pb.Series:
        return pb.Series(name=name, steps=self.steps.tolist(), values=self.values.tolist(), at_ms=self.at_ms.tolist())


def decode(chunks: Sequence[Chunk]) -> Points:
    """All points of the chunks (at least one), in the chunks' order."""
    block = _Block(chunks)
    return block.take(np.arange(len(block.values)))


def decode_reduced(chunks: Sequence[Chunk], max_points: int, from_step: int, to_step: int) -> Points:
    """The points with from_step ≤ step ≤ to_step of chunks in the order of their first steps: by step, reduced."""
    block = _Block(chunks)
    if block.ascends_within(from_step, to_step):
        # The usual case; only what is kept is decoded.
        return block.take(_chosen(block.values, max_points))
    points = block.take(np.arange(len(block.values)))
    return reduce(by_step(points.take((points.steps >= from_step) & (points.steps <= to_step))), max_points)


def by_step(points: Points) -> Points:
    """Ordered by step; points of the same step stay in the order of their arrival."""
    return points.take(np.argsort(points.steps, kind="stable"))


def concatenate(parts: Sequence[Points]) -> Points:
    """One after another; at least one."""
    if len(parts) == 1:
        return parts[0]
    return Points(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.at_ms for part in parts]),
    )


def reduce(points: Points, max_points: int) -> Points:
    """At most `max_points` ≥ MIN_POINTS of the points, in their order.

    The first, the last, a lowest, a highest and the first NaN are always among them, and the extremes of each of
    (max_points - 5) // 2 buckets of equal length. Infinities are values like others.
    """
    return points if len(points) <= max_points else points.take(_chosen(points.values, max_points))


def _chosen(values: Floats, max_points: int) -> Integers:
    """Indices of the values that a reduction keeps, ascending."""
    if len(values) <= max_points:
        return np.arange(len(values))
    kept = [0, len(values) - 1]
    missing = np.isnan(values)
    if not missing.any():
        kept += [int(values.argmin()), int(values.argmax())]
    else:
        kept.append(int(missing.argmax()))
        if not missing.all():
            kept += [int(np.nanargmin(values)), int(np.nanargmax(values))]
    # It passes over NaN.
    extremes = _MIN_MAX.downsample(np.ascontiguousarray(values), n_out=(max_points - _KEPT_APART) // 2 * 2)
    return np.union1d(extremes.astype(np.int64), np.array(kept, np.int64))


class _Block:
    """Chunks of one series, decoded as far as they are asked for; `values` are those of all their points."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks
        self._counts = np.array([chunk["points"] for chunk in chunks], np.int64)
        self._ends = np.cumsum(self._counts)
        self._first_steps = np.array([chunk["first_step"] for chunk in chunks], np.int64)
        self._last_steps = np.array([chunk["last_step"] for chunk in chunks], np.int64)
        # All steps follow from the chunks' first and last ones.
        self._regular = not any(chunk["steps"] for chunk in chunks)
        self.values: Floats = np.frombuffer(b"".join([chunk["values"] for chunk in chunks]), "<f8")

    def ascends_within(self, from_step: int, to_step: int) -> bool:
        """Whether all points are in the range, and ordered by step already."""
        first, last = self._first_steps, self._last_steps
        inside = int(first.min()) >= from_step and int(last.max()) <= to_step
        return inside and self._regular and bool(np.all(first[1:] >= last[:-1]))

    def take(self, chosen: Integers) -> Points:
        """The points at these indices."""
        of_chunk = np.searchsorted(self._ends, chosen, side="right")
        return Points(self._steps(chosen, of_chunk), self.values[chosen], self._times(chosen, of_chunk))

    def _steps(self, chosen: Integers, of_chunk: npt.NDArray[np.intp]) -> Integers:
        if not self._regular:
            return np.concatenate([_steps_of(chunk) for chunk in self._chunks])[chosen]
        strides = (self._last_steps - self._first_steps) // np.maximum(self._counts - 1, 1)
        at = chosen - (self._ends - self._counts)[of_chunk]
        steps: Integers = self._first_steps[of_chunk] + at * strides[of_chunk]
        return steps

    def _times(self, chosen: Integers, of_chunk: npt.NDArray[np.intp]) -> Integers:
        first = np.array([chunk["first_at_ms"] for chunk in self._chunks], np.int64)
        offsets: npt.NDArray[Any]
        if all(len(chunk["at_ms"]) == 4 * chunk["points"] for chunk in self._chunks):
            offsets = np.frombuffer(b"".join([chunk["at_ms"] for chunk in self._chunks]), "<i4")
        else:
            offsets = np.concatenate([_offsets_of(chunk) for chunk in self._chunks])
        times: Integers = first[of_chunk] + offsets[chosen]
        return times


def _steps_of(chunk: Chunk) -> Integers:
    if chunk["steps"]:
        return np.frombuffer(chunk["steps"], "<i8")
    stride = (chunk["last_step"] - chunk["first_step"]) // max(chunk["points"] - 1, 1)
    steps: Integers = chunk["first_step"] + stride * np.arange(chunk["points"])
    return steps


def _offsets_of(chunk: Chunk) -> Integers:
    narrow = len(chunk["at_ms"]) == 4 * chunk["points"]
    return np.frombuffer(chunk["at_ms"], "<i4" if narrow else "<i8").astype(np.int64)
