"""What passes between a dataset, a model and an evaluation: batches of images, what is in them, and what was predicted.

Boxes are given as left, top, right, bottom in shares of the image's width and height, 0 to 1, so that resizing an
image changes none of them.
"""

from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

# Pixels of a label map that belong to no class; neither the loss nor a metric counts them.
NOT_LABELLED = 255


@dataclass(frozen=True)
class Boxes:
    """The objects of one image."""

    # float32 (k, 4).
    boxes: Tensor
    # int64 (k,).
    labels: Tensor
    # bool (k,): stands for several objects; it is not trained on, and a prediction inside is not counted as wrong.
    crowd: Tensor


# Classification: int64 (n,). Detection: one entry an image. Segmentation: uint8 (n, size, size).
Targets: TypeAlias = Tensor | tuple[Boxes, ...]


@dataclass(frozen=True)
class Batch:
    """n images and what is in them."""

    # Of the images in their dataset.
    indices: tuple[int, ...]
    # uint8 (n, 3, size, size).
    pixels: Tensor
    targets: Targets
    # int64 (n, 2): width and height of the images in the dataset, upright.
    sizes: Tensor


@dataclass(frozen=True)
class Detections:
    """What a model found in one image, the surest first."""

    # float32 (k, 4).
    boxes: Tensor
    # int64 (k,).
    labels: Tensor
    # float32 (k,), 0 to 1.
    scores: Tensor


# Classification: probabilities, float32 (n, classes). Detection: one entry an image. Segmentation: classes, uint8
# (n, size, size).
Predictions: TypeAlias = Tensor | tuple[Detections, ...]


def targets_to(targets: Targets, device: object) -> Targets:
    """The same targets on another device."""
    if isinstance(targets, Tensor):
        return targets.to(device, non_blocking=True)  # type: ignore[call-overload,no-any-return]
    return tuple(Boxes(one.boxes.to(device), one.labels.to(device), one.crowd.to(device)) for one in targets)  # type: ignore[call-overload]
