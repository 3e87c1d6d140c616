"""The evaluator of each task."""

from collections.abc import Callable, Sequence

import torch

from protos.training.v1 import training_pb2
from runner_agent.trainer.evaluation.base import Evaluator
from runner_agent.trainer.evaluation.classification import Classification
from runner_agent.trainer.evaluation.detection import Detection
from runner_agent.trainer.evaluation.previews import Previewed
from runner_agent.trainer.evaluation.segmentation import Segmentation

_OF_TASK: dict[int, Callable[..., Evaluator]] = {
    training_pb2.TASK_CLASSIFICATION: Classification,
    training_pb2.TASK_DETECTION: Detection,
    training_pb2.TASK_SEGMENTATION: Segmentation,
}


def make(
    task: int, classes: Sequence[str], device: torch.device, *, with_matrix: bool, previews: Sequence[int] = ()
) -> Evaluator:
    """For one evaluation; `previews` are the images, by index in the dataset, whose predictions are told."""
    evaluator = _OF_TASK[task](classes, device, with_matrix=with_matrix)
    return Previewed(evaluator, previews) if previews else evaluator
