"""The mean loss over all validation images."""

import torch
from lightning.fabric import Fabric
from torch import Tensor, distributed


class MeanLoss:
    """Each image has the same weight, whatever batch it was in."""

    def __init__(self, device: torch.device) -> None:
        # Sum of the losses, number of images.
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, images: int) -> None:
        """`loss` is the mean over so many images, a scalar."""
        self._sums += torch.stack([loss.double() * images, torch.full_like(loss, images, dtype=torch.float64)])

    def result(self, fabric: Fabric) -> float:
        """Over the images of all processes; not-a-number where there were none."""
        if fabric.world_size > 1:
            distributed.all_reduce(self._sums)
        total, images = self._sums.tolist()
        return total / images if images else float("nan")
