"""MobileNetV2 (https://arxiv.org/abs/1801.04381) for classification."""

from typing import Any

from torch import nn
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

from runner_agent.trainer.models.classifier import ImageClassifier
from runner_agent.trainer.models.inputs import from_minus_one_to_one
from runner_agent.trainer.models.settings import require_image_size, require_known

_SETTINGS = frozenset(
    {
        "classifier_dropout_prob",
        "depth_divisible_by",
        "depth_multiplier",
        "expand_ratio",
        "finegrained_output",
        "first_layer_is_expansion",
        "hidden_act",
        "min_depth",
        "output_stride",
        "tf_padding",
    }
)
# transformers has taken 0.997 over from TensorFlow, where it is the share of the old mean; here it would be that of
# the newest batch, and an evaluation would go by one batch's statistics.
_MOMENTUM = 0.1


def build(config: dict[str, Any], classes: int, image_size: int) -> ImageClassifier:
    """A model with random weights for so many classes. Raises ConfigurationFailure, and what transformers raises."""
    require_known("mobilenet_v2", config, _SETTINGS)
    configuration = MobileNetV2Config(num_channels=3, image_size=image_size, **config)
    configuration.num_labels = classes
    require_image_size("mobilenet_v2", image_size, minimum=32)
    network = MobileNetV2ForImageClassification(configuration)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = _MOMENTUM
    return ImageClassifier(network, from_minus_one_to_one())
