"""Measures a classifier: loss, accuracy and the confusion matrix that the accuracy is read from."""

from collections.abc import Sequence

import torch
from lightning.fabric import Fabric
from torch import Tensor, distributed

from protos.training.v1 import training_pb2
from runner_agent.trainer.batch import Batch, Predictions
from runner_agent.trainer.evaluation.base import Evaluation
from runner_agent.trainer.retention import ACCURACY, LOSS


class Classification:
    """An Evaluator for classifications."""

    def __init__(self, classes: Sequence[str], device: torch.device, *, matrix: bool) -> None:
        self._classes = classes
        self._matrix = matrix
        n = len(classes)
        self._counts = torch.zeros(n * n, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, loss: Tensor, predictions: Predictions, batch: Batch) -> None:
        assert isinstance(predictions, Tensor)
        assert isinstance(batch.targets, Tensor)
        n = len(self._classes)
        self._loss += loss.double() * len(batch.targets)
        self._counts += torch.bincount(predictions.argmax(1) * n + batch.targets, minlength=n * n)

    def result(self, fabric: Fabric) -> Evaluation:
        if fabric.world_size > 1:
            distributed.all_reduce(self._counts)
            distributed.all_reduce(self._loss)
        n = len(self._classes)
        counts = self._counts.view(n, n)
        total = int(counts.sum().item())
        metrics = {LOSS: self._loss.item() / total, ACCURACY: int(counts.trace().item()) / total}
        matrix = None
        if self._matrix:
            matrix = training_pb2.ConfusionMatrix(classes=self._classes, counts=counts.flatten().tolist())
        return Evaluation(metrics, matrix=matrix)
