"""Vision transformers (https://arxiv.org/abs/2010.11929) for classification."""

from typing import Any

from transformers import ViTConfig, ViTForImageClassification

from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models.classifier import ImageClassifier
from runner_agent.trainer.models.settings import require_image_size, require_known

_SETTINGS = frozenset(
    {
        "attention_probs_dropout_prob",
        "hidden_act",
        "hidden_dropout_prob",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "patch_size",
        "qkv_bias",
    }
)


def build(config: dict[str, Any], classes: int, image_size: int) -> ImageClassifier:
    """A model with random weights for so many classes. Raises ConfigurationFailure, and what transformers raises."""
    require_known("vit", config, _SETTINGS)
    configuration = ViTConfig(num_channels=3, image_size=image_size, **config)
    configuration.num_labels = classes
    if not isinstance(configuration.patch_size, int) or configuration.patch_size < 1:
        raise ConfigurationFailure(f"the architecture's patch_size is {configuration.patch_size}; choose 1 or more")
    require_image_size("vit", image_size, multiple=configuration.patch_size)
    return ImageClassifier(ViTForImageClassification(configuration))
