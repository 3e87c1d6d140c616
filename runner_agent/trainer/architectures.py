"""Families of model architectures, built with random weights from their settings. Nothing is downloaded."""

import json
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from runner_agent.trainer.failures import ConfigurationFailure

_RESNET_SETTINGS = frozenset(
    {
        "depths",
        "downsample_in_bottleneck",
        "downsample_in_first_stage",
        "embedding_size",
        "hidden_act",
        "hidden_sizes",
        "layer_type",
    }
)


class ImageClassifier(nn.Module):
    """Images (n, 3, size, size) to logits (n, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits for a batch of normalised images."""
        logits: Tensor = self.network(pixel_values=pixels).logits
        return logits


def _resnet(config: dict[str, Any], classes: int) -> ImageClassifier:
    unknown = sorted(config.keys() - _RESNET_SETTINGS)
    if unknown:
        known = ", ".join(sorted(_RESNET_SETTINGS))
        raise ConfigurationFailure(f"family resnet has no setting {unknown[0]}; it knows {known}")
    configuration = ResNetConfig(num_channels=3, **config)
    configuration.num_labels = classes
    if len(configuration.depths or ()) != len(configuration.hidden_sizes or ()):
        # transformers would leave out the stages that are in one list only.
        raise ConfigurationFailure("the architecture's depths and hidden_sizes are not of the same length")
    return ImageClassifier(ResNetForImageClassification(configuration))


_FAMILIES: dict[str, Callable[[dict[str, Any], int], ImageClassifier]] = {"resnet": _resnet}


def build(family: str, config_json: str, classes: int) -> ImageClassifier:
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
        return _FAMILIES[family](config, classes)
    except ConfigurationFailure:
        raise
    except Exception as error:  # transformers checks settings while it builds, and raises nearly anything
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationFailure(f"no {family} can be built from config_json {config_json}: {reason}") from None
