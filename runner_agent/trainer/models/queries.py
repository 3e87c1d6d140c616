"""What the configurations of detectors by queries have in common."""

from typing import Any

from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models.settings import require_image_size, require_known

SETTINGS = frozenset(
    {
        "backbone",
        "d_model",
        "decoder_attention_heads",
        "decoder_ffn_dim",
        "decoder_in_channels",
        "decoder_layers",
        "decoder_n_points",
        "dropout",
        "encode_proj_layers",
        "encoder_attention_heads",
        "encoder_ffn_dim",
        "encoder_hidden_dim",
        "encoder_in_channels",
        "encoder_layers",
        "feat_strides",
        "freeze_backbone_batch_norms",
        "hidden_expansion",
        "num_denoising",
        "num_feature_levels",
        "num_queries",
    }
)
_SHARES = ("depth_mult", "hidden_expansion")


def backbone(family: str, config: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The backbone's settings. Raises ConfigurationFailure for one that it does not have."""
    found = config.get("backbone", {})
    if not isinstance(found, dict):
        raise ConfigurationFailure("the architecture's backbone is not a JSON object")
    require_known(f"{family}'s backbone", found, known)
    return found


def common(config: dict[str, Any], classes: int) -> dict[str, Any]:
    """Settings of a configuration of transformers."""
    return {
        # Frozen statistics would suit pretrained weights only.
        "freeze_backbone_batch_norms": False,
        # transformers tells 1 and 1.0 apart, and JSON does not.
        **{name: float(value) if name in _SHARES else value for name, value in config.items() if name != "backbone"},
        "num_labels": classes,
        # Each layer of the decoder has heads of its own, as published; shared ones could not be saved either.
        "tie_word_embeddings": False,
    }


def fit(configuration: Any, family: str, image_size: int) -> None:
    """Check the image size, and use no more queries than a small image has places.

    Raises ConfigurationFailure where the size does not fit: maps are doubled in size and added to each other.
    """
    strides = list(configuration.feat_strides)
    require_image_size(family, image_size, multiple=max(strides))
    places = sum((image_size // stride) ** 2 for stride in strides)
    configuration.num_queries = min(configuration.num_queries, places)
