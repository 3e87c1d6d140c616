"""Residual networks (https://arxiv.org/abs/1512.03385) for classification."""

from typing import Any

from transformers import ResNetConfig, ResNetForImageClassification

from runner_agent.trainer.models.classifier import ImageClassifier
from runner_agent.trainer.models.settings import require_known, require_same_length

_SETTINGS = frozenset(
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


def build(config: dict[str, Any], classes: int, image_size: int) -> ImageClassifier:
    """A model with random weights for so many classes. Raises ConfigurationFailure, and what transformers raises."""
    require_known("resnet", config, _SETTINGS)
    configuration = ResNetConfig(num_channels=3, **config)
    configuration.num_labels = classes
    require_same_length(configuration, "depths", "hidden_sizes")
    return ImageClassifier(ResNetForImageClassification(configuration))
