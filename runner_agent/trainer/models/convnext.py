"""ConvNeXt (https://arxiv.org/abs/2201.03545) for classification."""

from typing import Any

from transformers import ConvNextConfig, ConvNextForImageClassification

from runner_agent.trainer.models.classifier import ImageClassifier
from runner_agent.trainer.models.settings import require_image_size, require_known, require_same_length

_SETTINGS = frozenset({"depths", "drop_path_rate", "hidden_act", "hidden_sizes", "layer_scale_init_value"})


def build(config: dict[str, Any], classes: int, image_size: int) -> ImageClassifier:
    """A model with random weights for so many classes. Raises ConfigurationFailure, and what transformers raises."""
    require_known("convnext", config, _SETTINGS)
    configuration = ConvNextConfig(num_channels=3, **config)
    configuration.num_labels = classes
    configuration.num_stages = len(configuration.depths or ())
    require_same_length(configuration, "depths", "hidden_sizes")
    # Patches of 4 pixels, and a half of it at each further stage, without a margin.
    require_image_size("convnext", image_size, minimum=4 * 2 ** (configuration.num_stages - 1))
    return ImageClassifier(ConvNextForImageClassification(configuration))
