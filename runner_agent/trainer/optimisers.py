"""Optimisers of a training."""

import torch
from torch import nn

from protos.training.v1 import training_pb2

MOMENTUM = 0.9


def build(
    kind: int, model: nn.Module, learning_rate: float, weight_decay: float, *, fused: bool = True
) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum, over all parameters that are trained.

    `fused` updates all of them in one kernel; it must not be with a scaled loss whose gradients are clipped.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Decaying biases and normalisation does harm (https://arxiv.org/abs/1812.01187, section 3.1).
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    if kind == training_pb2.OPTIMIZER_SGD:
        return torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, fused=fused)
    return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
