"""Measures a semantic segmentation: loss, mean intersection over union, pixel accuracy, and the confusion matrix."""

from collections.abc import Sequence

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from runner_agent.trainer.batch import NOT_LABELLED, Batch, Predictions
from runner_agent.trainer.evaluation import counts, matrix
from runner_agent.trainer.evaluation.base import Evaluation
from runner_agent.trainer.evaluation.losses import MeanLoss
from runner_agent.trainer.retention import LOSS, MIOU

PIXEL_ACCURACY = "validation/pixel_accuracy"


class Segmentation:
    """An Evaluator for segmentations.

    Counted are the pixels of the resized images that have a label. The mean IoU is over the classes that occur in the
    truth or in a prediction, a class of the background included; the pixel accuracy is the share of the pixels whose
    class is right. `counts` says what a division by zero is.
    """

    def __init__(self, classes: Sequence[str], device: torch.device, *, with_matrix: bool) -> None:
        self._classes = classes
        self._with_matrix = with_matrix
        self._loss = MeanLoss(device)
        self._counts = MulticlassConfusionMatrix(len(classes), ignore_index=NOT_LABELLED, validate_args=False).to(
            device
        )

    def add(self, loss: Tensor, predictions: Predictions, batch: Batch) -> None:
        assert isinstance(predictions, Tensor)
        assert isinstance(batch.targets, Tensor)
        self._loss.add(loss, len(batch.targets))
        self._counts.update(predictions.long(), batch.targets.long())

    def result(self, fabric: Fabric) -> Evaluation:
        # Truth in rows.
        pixels = counts.total(self._counts)
        tp, support, predicted = pixels.diag(), pixels.sum(1), pixels.sum(0)
        fp, fn = predicted - tp, support - tp
        occurs = tp + fp + fn > 0
        columns = {
            "iou": counts.iou(tp, fp, fn),
            "precision": counts.precision(tp, fp),
            "recall": counts.recall(tp, fn),
        }
        metrics = {
            LOSS: self._loss.result(fabric),
            MIOU: counts.mean(columns["iou"], occurs),
            PIXEL_ACCURACY: float(counts.share(tp.sum(), support.sum()).item()),
        }
        told = matrix.of_classes(self._classes, pixels.T) if self._with_matrix else None
        return Evaluation(metrics, counts.by_class(self._classes, columns, occurs, support), told)
