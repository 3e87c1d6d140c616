"""Evaluates a classifier: loss, accuracy and the confusion matrix that the accuracy is read from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from torch import Tensor, distributed, nn
from torch.nn import functional

from runner_agent.trainer.data import Batch, normalise
from runner_agent.trainer.retention import ACCURACY, LOSS


@dataclass(frozen=True)
class Evaluation:
    """`counts[prediction][truth]` are numbers of images."""

    loss: float
    counts: list[list[int]]

    @property
    def metrics(self) -> dict[str, float]:
        """Mean cross-entropy in nats, and the share of images whose prediction is the truth."""
        right = sum(row[index] for index, row in enumerate(self.counts))
        return {LOSS: self.loss, ACCURACY: right / sum(map(sum, self.counts))}


def evaluate(
    model: nn.Module, batches: Iterator[Batch], classes: int, fabric: Fabric, stopped: Callable[[], bool]
) -> Evaluation | None:
    """Evaluate on all processes' batches together; None where it was stopped on the way.

    `model` is the plain one: a process may have a batch more than another, which wrappers would wait for.
    """
    if fabric.world_size > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
    counts = torch.zeros(classes * classes, dtype=torch.int64, device=fabric.device)
    loss = torch.zeros((), dtype=torch.float64, device=fabric.device)
    model.eval()
    try:
        with torch.no_grad():
            for pixels, labels in batches:
                if stopped():
                    return None
                labels = labels.to(fabric.device)
                logits = model(normalise(pixels.to(fabric.device))).float()
                loss += functional.cross_entropy(logits, labels, reduction="sum").double()
                counts += torch.bincount(logits.argmax(1) * classes + labels, minlength=classes * classes)
    finally:
        model.train()
    return _gather(fabric, counts, loss, classes)


def _gather(fabric: Fabric, counts: Tensor, loss: Tensor, classes: int) -> Evaluation:
    if fabric.world_size > 1:
        distributed.all_reduce(counts)
        distributed.all_reduce(loss)
    mean = loss.item() / int(counts.sum().item())
    return Evaluation(mean, counts.view(classes, classes).tolist())
