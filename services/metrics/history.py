"""What is known of one training when advice is sought. Pure."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """A series by step; both arrays have the same length."""

    steps: Integers
    values: Floats

    @classmethod
    def of(cls, steps: Sequence[int], values: Sequence[float]) -> "Curve":
        return cls(np.array(steps, np.int64), np.array(values, np.float64))

    def mean_within(self, after: int, up_to: int) -> float:
        """Mean of the finite values with after < step ≤ up_to; not-a-number where there are none."""
        chosen = self.values[(self.steps > after) & (self.steps <= up_to)]
        chosen = chosen[np.isfinite(chosen)]
        return float(chosen.mean()) if len(chosen) else float("nan")

    def in_bins(self, bins: int) -> tuple[Integers, Floats]:
        """Last step and mean of so many runs of equal length."""
        parts = np.array_split(np.arange(len(self.values)), bins)
        steps = np.array([self.steps[part[-1]] for part in parts], np.int64)
        return steps, np.array([self.values[part].mean() for part in parts])


@dataclass(frozen=True, slots=True)
class History:
    """One training: what it told of itself, its evaluations by step, and its series, reduced."""

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
