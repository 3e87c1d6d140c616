"""Reads one image together with what is in it, whatever the dataset's format."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from protos.training.v1 import training_pb2
from runner_agent.trainer.datasets import images, mask_folder, yolo
from runner_agent.trainer.datasets.images import UnreadableImageError
from runner_agent.trainer.datasets.listing import Item, Listing, Objects, printable

# Boxes are written down with rounded numbers; only what reaches further out is worth a word.
_TOLERANCE_PIXELS = 1.0


@dataclass(frozen=True, eq=False, slots=True)
class Placed:
    """The objects of one image, in shares of its width and height and clipped to it."""

    # float32 (k, 4): left, top, right, bottom.
    boxes: np.ndarray
    # int64 (k,).
    labels: np.ndarray
    # bool (k,).
    crowd: np.ndarray
    # Boxes that reached beyond the image; and those that lay outside or had no area, and are left out.
    clipped: int = 0
    dropped: int = 0


# Classification: the class. Detection: boxes. Segmentation: the class of each pixel, uint8 (height, width), resized
# like the image.
Target: TypeAlias = int | Placed | np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """An image, RGB, with its target."""

    pixels: Image.Image
    target: Target
    # Width and height of the upright image before it was resized.
    size: tuple[int, int]
    # Of the mask before it was resized: how many pixels are of each class number, int64 (255,).
    pixel_counts: np.ndarray | None = None


def read(listing: Listing, item: Item, image_size: int | None = None) -> Example:
    """Decode an image and its target, resized to a square if a size is given. Raises UnreadableImageError."""
    if item.fault:
        raise UnreadableImageError(item.fault)
    pixels, size = images.decode_measured(listing.root, item, image_size)
    if item.size != (0, 0) and item.size != size:
        told, found = (f"{width} x {height}" for width, height in (item.size, size))
        raise UnreadableImageError(f"is {found} pixels and not {told} as its annotations say")
    if listing.task == training_pb2.TASK_CLASSIFICATION:
        return Example(pixels, item.label, size)
    if listing.task == training_pb2.TASK_DETECTION:
        return Example(pixels, place(_objects(listing, item), size), size)
    mask = _mask(listing, item, size)
    counts = np.bincount(mask.reshape(-1), minlength=256)[: mask_folder.NOT_LABELLED]
    if image_size is not None and mask.shape != (image_size, image_size):
        resized = Image.fromarray(mask).resize((image_size, image_size), Image.Resampling.NEAREST)
        mask = np.asarray(resized)
    return Example(pixels, mask, size, counts)


def _objects(listing: Listing, item: Item) -> Objects:
    if item.objects is not None:
        return item.objects
    try:
        return yolo.read(listing.root, item.companion, len(listing.classes))
    except yolo.LabelError as error:
        raise UnreadableImageError(str(error), item.companion, error.line) from None


def place(objects: Objects, size: tuple[int, int]) -> Placed:
    """Objects in an image of this width and height, in pixels, as they can be trained on. Pure."""
    sides = np.array([*size, *size], np.float64)
    boxes = objects.boxes / sides if objects.in_pixels else objects.boxes
    inside = np.clip(boxes, 0.0, 1.0)
    clipped = (np.abs(boxes - inside) * sides > _TOLERANCE_PIXELS).any(axis=1)
    placed = inside.astype(np.float32)
    # Compared in the precision in which they are trained on: two sides may have become one.
    kept = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
    return Placed(
        placed[kept],
        objects.labels[kept],
        objects.crowd[kept],
        int((clipped & kept).sum()),
        int((~kept).sum()),
    )


def _mask(listing: Listing, item: Item, size: tuple[int, int]) -> np.ndarray:
    if not item.companion:
        raise UnreadableImageError(f"has no mask of the same name in {mask_folder.MASKS}")
    path = listing.root / item.companion
    name = printable(item.companion)

    def work(mask: Image.Image) -> np.ndarray:
        if mask.size != size:
            found, told = (f"{width} x {height}" for width, height in (mask.size, size))
            raise UnreadableImageError(f"is {found} pixels and not {told} like the image, upright")
        mask.load()
        try:
            return mask_folder.classes_of(mask, len(listing.classes), listing.colours)
        except mask_folder.MaskError as error:
            raise UnreadableImageError(str(error)) from None

    try:
        if not path.is_file():
            raise UnreadableImageError("is not a regular file")
        return images.opened(str(path), work)
    except (UnreadableImageError, OSError) as error:
        raise UnreadableImageError(f"has a mask, {name}, that {error}", item.companion) from None
