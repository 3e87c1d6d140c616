"""Evaluates hand-made batches of the three tasks in several processes, as the GPUs of a box do; prints what each found.

`python -m tests.support.shared_evaluation PROCESSES`: one JSON document, a list with an entry a task.
"""

import json
import sys
from typing import Any

import torch
from lightning.fabric import Fabric

from protos.training.v1 import training_pb2
from runner_agent.trainer.evaluation import evaluators
from runner_agent.trainer.evaluation.base import Evaluation
from tests.support import batches

CLASSES = ("ant", "bee", "cat")
# The last process gets one batch fewer, and nothing of the last task.
SAMPLES = {
    training_pb2.TASK_CLASSIFICATION: [batches.classification(at, 4 + at, 3, first=10 * at) for at in range(3)],
    training_pb2.TASK_DETECTION: [batches.detection(at, 4 + at, 3, first=10 * at) for at in range(3)],
    training_pb2.TASK_SEGMENTATION: [batches.segmentation(1, 2, 3)],
}


def evaluate(fabric: Fabric) -> list[Any]:
    """What this process learns of the batches of all."""
    found = []
    for task, samples in SAMPLES.items():
        evaluator = evaluators.make(task, CLASSES, fabric.device, with_matrix=True, previews=(0, 1, 10))
        for number, (batch, predictions) in enumerate(samples):
            if number % fabric.world_size == fabric.global_rank:
                evaluator.add(torch.tensor(float(number)), predictions, batch)
        found.append(_told(evaluator.result(fabric)))
    return found


def _told(found: Evaluation) -> Any:
    assert found.matrix is not None
    classes = [(one.name, one.metrics, one.support) for one in found.classes]
    predictions = [one.SerializeToString().hex() for one in found.predictions]
    return [found.metrics, classes, list(found.matrix.counts), predictions]


def _process(fabric: Fabric) -> Any:
    own = evaluate(fabric)
    everyone: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(everyone, own)
    return everyone


if __name__ == "__main__":
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=int(sys.argv[1]), strategy="ddp_fork")
    print(json.dumps(fabric.launch(_process)))
