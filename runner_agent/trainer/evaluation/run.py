"""Runs an evaluation of a model over batches."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from lightning.fabric import Fabric
from torch import distributed

from runner_agent.trainer.batch import Batch, targets_to
from runner_agent.trainer.evaluation.base import Evaluation, Evaluator
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.pixels import normalise


def evaluate(
    model: Model, batches: Iterator[Batch], evaluator: Evaluator, fabric: Fabric, stopped: Callable[[], bool]
) -> Evaluation | None:
    """Evaluate on all processes' batches together; None where it was stopped on the way.

    `model` is the plain one: a process may have a batch more than another, which wrappers would wait for.
    """
    if fabric.world_size > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                if stopped():
                    return None
                targets = targets_to(batch.targets, fabric.device)
                loss, raw = model(normalise(batch.pixels.to(fabric.device)), targets)
                evaluator.add(loss, model.decode(raw), replace(batch, targets=targets))
    finally:
        model.train()
    return evaluator.result(fabric)
