"""Semantic segmentation: one class a pixel."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner_agent.trainer.batch import NOT_LABELLED, Predictions, Targets
from runner_agent.trainer.models.base import Model


class ImageSegmenter(Model):
    """A network of transformers whose output has `logits`, (n, classes, height, width) in a share of the input's size.

    The loss is the cross-entropy in nats, the mean over labelled pixels, at the size of the input.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor, targets: Targets) -> tuple[Tensor, tuple[Tensor, ...]]:
        assert isinstance(targets, Tensor)
        raw = self.outputs(pixels)
        total = functional.cross_entropy(raw[0], targets.long(), ignore_index=NOT_LABELLED, reduction="sum")
        # A mean over no pixel at all would not be a number.
        return total / (targets != NOT_LABELLED).sum().clamp(min=1), raw

    def outputs(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Logits, float32 (n, classes, size, size)."""
        logits = self.network(pixel_values=pixels).logits.float()
        return (functional.interpolate(logits, pixels.shape[-2:], mode="bilinear", align_corners=False),)

    def decode(self, raw: tuple[Tensor, ...]) -> Predictions:
        return raw[0].argmax(1).to(torch.uint8)
