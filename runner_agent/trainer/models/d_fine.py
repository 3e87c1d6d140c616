"""D-FINE (https://arxiv.org/abs/2410.13842) for detection, with HGNetV2 as its backbone."""

from typing import Any

from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config
from transformers.loss.loss_d_fine import DFineForObjectDetectionLoss

from runner_agent.trainer.models import queries
from runner_agent.trainer.models.detector import QueryDetector, start_afresh
from runner_agent.trainer.models.inputs import from_zero_to_one
from runner_agent.trainer.models.settings import require_known, require_same_length

_SETTINGS = queries.SETTINGS | {"depth_mult", "layer_scale", "lqe_hidden_dim", "lqe_layers", "max_num_bins"}
_BY_STAGE = (
    "hidden_sizes",
    "stage_in_channels",
    "stage_mid_channels",
    "stage_out_channels",
    "stage_downsample",
    "stage_light_block",
    "stage_kernel_size",
    "stage_numb_of_layers",
)
_BACKBONE_SETTINGS = frozenset(
    {*_BY_STAGE, "stage_num_blocks", "stem_channels", "use_learnable_affine_block", "out_features", "hidden_act"}
)


def build(config: dict[str, Any], classes: int, image_size: int) -> QueryDetector:
    """A model with random weights for so many classes. Raises ConfigurationFailure, and what transformers raises."""
    require_known("d_fine", config, _SETTINGS)
    backbone = queries.backbone("d_fine", config, _BACKBONE_SETTINGS)
    hgnet = HGNetV2Config(**{"out_features": ["stage2", "stage3", "stage4"], **backbone})
    for name in _BY_STAGE:
        require_same_length(hgnet, "stage_num_blocks", name)
    configuration = DFineConfig(backbone_config=hgnet, **queries.common(config, classes))
    queries.fit(configuration, "d_fine", image_size)
    whole = DFineForObjectDetection(configuration)
    start_afresh(whole)
    return QueryDetector(whole, DFineForObjectDetectionLoss, from_zero_to_one())
