"""SegFormer (https://arxiv.org/abs/2105.15203) for semantic segmentation."""

from typing import Any

from transformers import SegformerConfig, SegformerForSemanticSegmentation

from runner_agent.trainer.batch import NOT_LABELLED
from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models.segmenter import ImageSegmenter
from runner_agent.trainer.models.settings import require_image_size, require_known, require_same_length

_SETTINGS = frozenset(
    {
        "attention_probs_dropout_prob",
        "classifier_dropout_prob",
        "decoder_hidden_size",
        "depths",
        "drop_path_rate",
        "hidden_act",
        "hidden_dropout_prob",
        "hidden_sizes",
        "mlp_ratios",
        "num_attention_heads",
        "patch_sizes",
        "sr_ratios",
        "strides",
    }
)
# With one entry a stage, as `depths` has.
_BY_STAGE = ("hidden_sizes", "mlp_ratios", "num_attention_heads", "patch_sizes", "sr_ratios", "strides")


def build(config: dict[str, Any], classes: int, image_size: int) -> ImageSegmenter:
    """A model with random weights for so many classes. Raises ConfigurationFailure, and what transformers raises."""
    require_known("segformer", config, _SETTINGS)
    if classes > NOT_LABELLED:
        raise ConfigurationFailure(f"a segmentation has at most {NOT_LABELLED} classes, and the dataset has {classes}")
    configuration = SegformerConfig(num_channels=3, **config)
    configuration.num_labels = classes
    configuration.num_encoder_blocks = len(configuration.depths or ())
    for name in _BY_STAGE:
        require_same_length(configuration, "depths", name)
    # Keys and values of each stage are reduced by its ratio, without a margin.
    stride, smallest = 1, 1
    for step, reduced in zip(configuration.strides, configuration.sr_ratios, strict=True):
        stride *= step
        smallest = max(smallest, stride * reduced)
    require_image_size("segformer", image_size, minimum=smallest)
    return ImageSegmenter(SegformerForSemanticSegmentation(configuration))
