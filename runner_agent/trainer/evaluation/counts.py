"""Precision, recall and their kin from counts.

Of each class: `tp` were predicted so and are so, `fp` were predicted so and are not, `fn` are so and were predicted
otherwise. A fraction whose denominator is zero is 0; a class that occurs neither in the truth nor among the predictions
has no metrics at all and no part in a mean over the classes (as scikit-learn's macro average over the labels that
occur).
"""

import warnings
from collections.abc import Sequence

from torch import Tensor
from torchmetrics import Metric

from runner_agent.trainer.evaluation.base import ClassMetrics


def total(metric: Metric) -> Tensor:
    """The counts of all processes together; torchmetrics adds them up."""
    with warnings.catch_warnings():
        # It warns of a process that had no images, which is no mistake where there are fewer images than processes.
        warnings.filterwarnings("ignore", message=r"The ``compute`` method", category=UserWarning)
        counts: Tensor = metric.compute()
    return counts


def share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, float64, element by element; 0 where the whole is 0."""
    return part.double() / whole.double().clamp(min=1)


def precision(tp: Tensor, fp: Tensor) -> Tensor:
    return share(tp, tp + fp)


def recall(tp: Tensor, fn: Tensor) -> Tensor:
    return share(tp, tp + fn)


def f1(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """The harmonic mean of precision and recall."""
    return share(2 * tp, 2 * tp + fp + fn)


def iou(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """Intersection over union (the Jaccard index)."""
    return share(tp, tp + fp + fn)


def mean(values: Tensor, occurs: Tensor) -> float:
    """Over the classes that occur; not-a-number where none does."""
    return float(values[occurs].mean().item())


def by_class(
    classes: Sequence[str], columns: dict[str, Tensor], occurs: Tensor, support: Tensor
) -> tuple[ClassMetrics, ...]:
    """One entry a class, in the order of the classes; `columns` has each metric's values."""
    told = {name: column.tolist() for name, column in columns.items()}
    there, counts = occurs.tolist(), support.tolist()
    return tuple(
        ClassMetrics(name, {metric: column[i] for metric, column in told.items()} if there[i] else {}, counts[i])
        for i, name in enumerate(classes)
    )
