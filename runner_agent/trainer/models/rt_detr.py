"""RT-DETRv2 (https://arxiv.org/abs/2407.17140) for detection, with a residual network as its backbone."""

from typing import Any

from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection
from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss

from runner_agent.trainer.models import queries
from runner_agent.trainer.models.detector import QueryDetector, start_afresh
from runner_agent.trainer.models.inputs import from_zero_to_one
from runner_agent.trainer.models.settings import require_known, require_same_length

_SETTINGS = queries.SETTINGS
_BACKBONE_SETTINGS = frozenset(
    {
        "depths",
        "downsample_in_bottleneck",
        "downsample_in_first_stage",
        "embedding_size",
        "hidden_act",
        "hidden_sizes",
        "layer_type",
        "out_features",
    }
)


def build(config: dict[str, Any], classes: int, image_size: int) -> QueryDetector:
    """A model with random weights for so many classes. Raises ConfigurationFailure, and what transformers raises."""
    require_known("rt_detr_v2", config, _SETTINGS)
    backbone = queries.backbone("rt_detr_v2", config, _BACKBONE_SETTINGS)
    resnet = RTDetrResNetConfig(**{"out_features": ["stage2", "stage3", "stage4"], **backbone})
    require_same_length(resnet, "depths", "hidden_sizes")
    configuration = RTDetrV2Config(backbone_config=resnet, **queries.common(config, classes))
    queries.fit(configuration, "rt_detr_v2", image_size)
    whole = RTDetrV2ForObjectDetection(configuration)
    start_afresh(whole)
    return QueryDetector(whole, RTDetrForObjectDetectionLoss, from_zero_to_one())
