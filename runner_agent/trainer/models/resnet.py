"""Residual networks (https://arxiv.org/abs/1512.03385) for classification."""

from typing import Any

from transformers import ResNetConfig, ResNetForImageClassification

from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models.classifier import ImageClassifier

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


def build(config: dict[str, Any], classes: int) -> ImageClassifier:
    """A model with random weights for so many classes. Raises ConfigurationFailure, and what transformers raises."""
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
