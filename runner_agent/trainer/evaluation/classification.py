"""Measures a classifier: loss, accuracy, precision, recall, F1, and the confusion matrix."""

from collections.abc import Sequence

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassStatScores

from runner_agent.trainer.batch import Batch, Predictions
from runner_agent.trainer.evaluation import counts, matrix
from runner_agent.trainer.evaluation.base import Evaluation
from runner_agent.trainer.evaluation.losses import MeanLoss
from runner_agent.trainer.retention import ACCURACY, LOSS

PRECISION, RECALL, F1 = "validation/precision", "validation/recall", "validation/f1"


class Classification:
    """An Evaluator for classifications.

    The accuracy is the share of the images whose likeliest class is the true one; precision, recall and F1 are means
    over the classes that occur, each class with the same weight (macro). `counts` says what a division by zero is.
    """

    def __init__(self, classes: Sequence[str], device: torch.device, *, with_matrix: bool) -> None:
        self._classes = classes
        self._loss = MeanLoss(device)
        n = len(classes)
        self._scores = MulticlassStatScores(n, average=None, validate_args=False).to(device)
        self._matrix = MulticlassConfusionMatrix(n, validate_args=False).to(device) if with_matrix else None

    def add(self, loss: Tensor, predictions: Predictions, batch: Batch) -> None:
        assert isinstance(predictions, Tensor)
        assert isinstance(batch.targets, Tensor)
        self._loss.add(loss, len(batch.targets))
        likeliest = predictions.argmax(1)
        self._scores.update(likeliest, batch.targets)
        if self._matrix is not None:
            self._matrix.update(likeliest, batch.targets)

    def result(self, fabric: Fabric) -> Evaluation:
        tp, fp, _, fn, support = counts.total(self._scores).view(-1, 5).unbind(1)
        occurs = tp + fp + fn > 0
        columns = {"precision": counts.precision(tp, fp), "recall": counts.recall(tp, fn), "f1": counts.f1(tp, fp, fn)}
        metrics = {
            LOSS: self._loss.result(fabric),
            ACCURACY: float(counts.share(tp.sum(), support.sum()).item()),
            PRECISION: counts.mean(columns["precision"], occurs),
            RECALL: counts.mean(columns["recall"], occurs),
            F1: counts.mean(columns["f1"], occurs),
        }
        told = None
        if self._matrix is not None:
            # torchmetrics has the truth in rows.
            told = matrix.of_classes(self._classes, counts.total(self._matrix).T)
        return Evaluation(metrics, counts.by_class(self._classes, columns, occurs, support), told)
