"""Families of model architectures, built with random weights from their settings. Nothing is downloaded."""

import json
from collections.abc import Callable
from typing import Any

from protos.training.v1 import training_pb2
from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models import resnet
from runner_agent.trainer.models.base import Model

# Family → its task, and what builds it from its settings and a number of classes.
_FAMILIES: dict[str, tuple[int, Callable[[dict[str, Any], int], Model]]] = {
    "resnet": (training_pb2.TASK_CLASSIFICATION, resnet.build),
}


def build(family: str, config_json: str, classes: int) -> Model:
    """A model with random weights from torch's generator. Raises ConfigurationFailure if it cannot be built."""
    if family not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise ConfigurationFailure(f"architecture family {family or '(empty)'} is unknown; this runner knows {known}")
    try:
        config = json.loads(config_json or "{}")
    except ValueError as error:
        raise ConfigurationFailure(f"the architecture's config_json is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ConfigurationFailure("the architecture's config_json is not a JSON object")
    try:
        return _FAMILIES[family][1](config, classes)
    except ConfigurationFailure:
        raise
    except Exception as error:  # transformers checks settings while it builds, and raises nearly anything
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationFailure(f"no {family} can be built from config_json {config_json}: {reason}") from None
