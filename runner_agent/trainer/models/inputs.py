"""Published weights expect pixels in different scales."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from runner_agent.trainer.pixels import DEVIATION, MEAN


class Rescaled(nn.Module):
    """From pixels as `pixels.normalise` makes them to pixels of another mean and deviation, float (n, 3, size, size).

    Not a part of a checkpoint: it follows from the family.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        ours = torch.tensor([MEAN, DEVIATION]).view(2, 1, 3, 1, 1)
        theirs = torch.tensor([mean, deviation]).view(2, 1, 3, 1, 1)
        self.register_buffer("scale", ours[1] / theirs[1], persistent=False)
        self.register_buffer("shift", (ours[0] - theirs[0]) / theirs[1], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * self.scale + self.shift


def from_zero_to_one() -> Rescaled:
    """Pixels from 0 to 1."""
    return Rescaled((0.0,) * 3, (1.0,) * 3)


def from_minus_one_to_one() -> Rescaled:
    """Pixels from -1 to 1."""
    return Rescaled((0.5,) * 3, (0.5,) * 3)
