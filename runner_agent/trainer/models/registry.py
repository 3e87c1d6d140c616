"""Families of model architectures, built with random weights from their settings. Nothing is downloaded."""

import json
from collections.abc import Callable
from typing import Any

from protos.training.v1 import training_pb2
from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models import convnext, d_fine, mobilenet_v2, resnet, rt_detr, segformer, vit
from runner_agent.trainer.models.base import Model

# Family → its task, and what builds it from its settings, a number of classes and an image size. All of them are
# imported at once (0.2 s): a training must not wait for it after its release.
FAMILIES: dict[str, tuple["training_pb2.Task.ValueType", Callable[[dict[str, Any], int, int], Model]]] = {
    "convnext": (training_pb2.TASK_CLASSIFICATION, convnext.build),
    "d_fine": (training_pb2.TASK_DETECTION, d_fine.build),
    "mobilenet_v2": (training_pb2.TASK_CLASSIFICATION, mobilenet_v2.build),
    "resnet": (training_pb2.TASK_CLASSIFICATION, resnet.build),
    "rt_detr_v2": (training_pb2.TASK_DETECTION, rt_detr.build),
    "segformer": (training_pb2.TASK_SEGMENTATION, segformer.build),
    "vit": (training_pb2.TASK_CLASSIFICATION, vit.build),
}


def build(family: str, config_json: str, classes: int, image_size: int) -> Model:
    """A model with random weights from torch's generator, for square images. Raises ConfigurationFailure."""
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ConfigurationFailure(f"architecture family {family or '(empty)'} is unknown; this runner knows {known}")
    try:
        config = json.loads(config_json or "{}")
    except ValueError as error:
        raise ConfigurationFailure(f"the architecture's config_json is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ConfigurationFailure("the architecture's config_json is not a JSON object")
    try:
        return FAMILIES[family][1](config, classes, image_size)
    except ConfigurationFailure:
        raise
    except Exception as error:  # transformers checks settings while it builds, and raises nearly anything
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationFailure(f"no {family} can be built from config_json {config_json}: {reason}") from None
