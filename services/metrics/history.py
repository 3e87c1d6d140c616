"""What is known of one training when advice is sought. Pure."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protos.metrics.v1.ingest_pb2 import Evaluation, TrainingFacts
from protos.training.v1 import training_pb2

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TRAIN_LOSS, LOSS = "train/loss", "validation/loss"
# The task's metric for all images (0 to 1, higher is better), and the one that each class has.
PRIMARY = {
    training_pb2.TASK_CLASSIFICATION: ("validation/accuracy", "f1"),
    training_pb2.TASK_DETECTION: ("validation/map", "average_precision"),
    training_pb2.TASK_SEGMENTATION: ("validation/miou", "iou"),
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A series as means of runs of its points; the arrays have the same length. A short series has a run a point."""

    # Of each run's last point.
    steps: Integers
    # Means of the finite values, and how many those are; not-a-number where a run has none.
    values: Floats
    counts: Integers
    # The largest finite value; minus infinity where there is none.
    highest: float
    # Step and value of the first point that is not finite.
    broken: tuple[int, float] | None

    @classmethod
    def of(cls, steps: npt.ArrayLike, values: npt.ArrayLike, width: int = 1) -> "Curve":
        """Runs of `width` points, the last one of those that are left."""
        at, told = np.asarray(steps, np.int64), np.asarray(values, np.float64)
        starts = np.arange(0, len(told), width)
        finite = np.isfinite(told)
        counts = np.add.reduceat(finite, starts, dtype=np.int64)
        sums = np.add.reduceat(np.where(finite, told, 0.0), starts)
        means = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
        first = int(finite.argmin()) if not finite.all() else None
        return cls(
            at[np.minimum(starts + width, len(told)) - 1],
            means,
            counts,
            float(told[finite].max(initial=-np.inf)),
            None if first is None else (int(at[first]), float(told[first])),
        )

    @classmethod
    def joined(cls, curves: "Sequence[Curve]") -> "Curve":
        """One after another; at least one."""
        return cls(
            np.concatenate([curve.steps for curve in curves]),
            np.concatenate([curve.values for curve in curves]),
            np.concatenate([curve.counts for curve in curves]),
            max(curve.highest for curve in curves),
            next((curve.broken for curve in curves if curve.broken is not None), None),
        )

    def points_after(self, step: int) -> int:
        """How many finite points there are."""
        return int(self.counts[self.steps > step].sum())

    def mean_after(self, step: int) -> float:
        """Mean of the finite points; not-a-number where there are none."""
        return self._mean(self.steps > step)

    def mean_within(self, after: int, up_to: int) -> float:
        """Mean of the finite points with after < step ≤ up_to; not-a-number where there are none."""
        return self._mean((self.steps > after) & (self.steps <= up_to))

    def in_bins(self, bins: int) -> tuple[Integers, Floats]:
        """Last step and mean of so many parts of equal length."""
        parts = np.array_split(np.arange(len(self.values)), bins)
        steps = np.array([self.steps[part[-1]] for part in parts], np.int64)
        return steps, np.array([self._mean(part) for part in parts])

    def _mean(self, chosen: npt.NDArray[Any]) -> float:
        counts = self.counts[chosen]
        # A run without any counts nothing, and its mean is none.
        sums = np.where(counts > 0, self.values[chosen] * counts, 0.0)
        return float(sums.sum() / counts.sum()) if counts.any() else float("nan")


@dataclass(frozen=True, slots=True)
class History:
    """One training: what it told of itself, its evaluations by step, and its series."""

    facts: TrainingFacts
    evaluations: Sequence[Evaluation]
    curves: Mapping[str, Curve]

    @property
    def primary(self) -> str:
        """Name of the task's metric."""
        return PRIMARY.get(self.facts.task, ("", ""))[0]

    @property
    def class_metric(self) -> str:
        """Name of the metric that classes are compared by."""
        return PRIMARY.get(self.facts.task, ("", ""))[1]

    @property
    def steps(self) -> Integers:
        """Of the evaluations."""
        return np.array([evaluation.step for evaluation in self.evaluations], np.int64)

    def measured(self, name: str) -> Floats:
        """One value an evaluation; not-a-number where it has none."""
        return np.array([evaluation.metrics.get(name, float("nan")) for evaluation in self.evaluations])

    def train_losses(self) -> Floats:
        """Mean training loss since the evaluation before, one value an evaluation."""
        curve = self.curves.get(TRAIN_LOSS)
        if curve is None:
            return np.full(len(self.evaluations), np.nan)
        steps = [-(1 << 62), *self.steps.tolist()]
        return np.array([curve.mean_within(*pair) for pair in itertools.pairwise(steps)])

    def of_gpus(self, kind: str) -> list[tuple[str, Curve]]:
        """The series of this kind, for example `utilization_percent`, one a GPU."""
        return [
            (name, curve)
            for name, curve in sorted(self.curves.items())
            if name.startswith("gpu") and name.endswith(f"/{kind}")
        ]
