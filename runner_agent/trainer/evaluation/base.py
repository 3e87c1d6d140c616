"""What an evaluation finds, whatever the task."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lightning.fabric import Fabric
from torch import Tensor

from protos.metrics.v1 import preview_pb2
from protos.training.v1 import training_pb2
from runner_agent.trainer.batch import Batch, Predictions


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class; `support` counts its validation images, objects or pixels."""

    name: str
    metrics: dict[str, float]
    support: int


@dataclass(frozen=True)
class Evaluation:
    """What was measured on the validation images. `metrics` begin with `validation/`; the loss is among them."""

    metrics: dict[str, float]
    classes: Sequence[ClassMetrics] = ()
    # Absent where it was not asked for or would be too large.
    matrix: training_pb2.ConfusionMatrix | None = None
    # Of the preview images, where previews were asked for.
    predictions: Sequence[preview_pb2.Prediction] = field(default=())


class Evaluator(Protocol):
    """Takes batches one after another and says at the end what was measured."""

    def add(self, loss: Tensor, predictions: Predictions, batch: Batch) -> None:
        """`loss` is the mean over the batch's images, a scalar; targets and predictions lie on the same device."""

    def result(self, fabric: Fabric) -> Evaluation:
        """Over the batches of all processes; each process gets the same."""
