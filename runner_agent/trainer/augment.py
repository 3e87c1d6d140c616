"""Random changes of training images and of what is in them, on kornia, on the device that trains.

Flips, rotation and crop are one affine map an image, so that pixels are resampled once, and boxes and label maps move
exactly as the pixels do. (kornia's AugmentationSequential resamples once an augmentation, and takes only batches with
as many boxes in every image.) Draws come from torch's generator of the CPU: the same seed, the same changes anywhere.
"""

import math
from dataclasses import dataclass

import torch
from kornia import enhance
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import warp_affine
from torch import Tensor

from protos.training.v1 import training_pb2
from runner_agent.trainer.batch import NOT_LABELLED, Batch, Boxes, Targets, targets_to
from runner_agent.trainer.pixels import MEAN

# A box is dropped where less than this share of its area, or fewer pixels of a side, are left inside the image.
MIN_VISIBLE_SHARE = 0.1
MIN_SIDE_PIXELS = 2
# A box of which a larger share is erased is not there any more.
MAX_ERASED_SHARE = 0.7
# Width to height of what a crop cuts out.
_CROP_RATIO = (3 / 4, 4 / 3)
# An erased rectangle (https://arxiv.org/abs/1708.04896): share of the image's area, and width to height.
_ERASED_AREA = (0.02, 0.2)
_ERASED_RATIO = (0.3, 1 / 0.3)
# In pixels; the kernel takes a twentieth of the image, up to so many.
_BLUR_SIGMA = (0.1, 2.0)
_MAX_BLUR_KERNEL = 23
_DRAWS = 18


@dataclass(frozen=True)
class Change:
    """What happens to each of n images; all tensors lie on the CPU.

    Positions are shares of width and height, and move to matrix @ position + shift.
    """

    # float32 (n, 2, 2) and (n, 2).
    matrix: Tensor
    shift: Tensor
    # What is erased then, float32 (n, 4): left, top, right, bottom; without an area where nothing is.
    erased: Tensor


def change(chosen: training_pb2.Augmentations, draws: Tensor) -> Change:
    """From uniform draws, 0 to 1, (n, 12). Angles turn clockwise, of the image as it was resized to a square."""
    n = len(draws)
    flip = torch.ones(n, 2)
    flip[draws[:, 0] < chosen.horizontal_flip, 0] = -1
    flip[draws[:, 1] < chosen.vertical_flip, 1] = -1
    angle = (2 * draws[:, 2] - 1) * math.radians(chosen.rotation_degrees)
    cosine, sine = angle.cos(), angle.sin()
    rotation = torch.stack((cosine, -sine, sine, cosine), 1).view(n, 2, 2)
    window = torch.ones(n, 2)
    if chosen.crop_min_area:
        window = _rectangles(draws[:, 3:5], (chosen.crop_min_area, 1.0), _CROP_RATIO)
    corner = draws[:, 5:7] * (1 - window)
    # Turned and flipped around the image's middle; then the window becomes the image.
    matrix = rotation * flip[:, None, :] / window[:, :, None]
    shift = (0.5 - corner) / window - matrix.sum(2) / 2
    hole = _rectangles(draws[:, 7:9], _ERASED_AREA, _ERASED_RATIO) * (draws[:, 11:12] < chosen.erasing)
    start = draws[:, 9:11] * (1 - hole)
    return Change(matrix, shift, torch.cat((start, start + hole), 1))


def _rectangles(draws: Tensor, area: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Width and height, in shares, (n, 2), of rectangles that fit into the image."""
    areas = area[0] + (area[1] - area[0]) * draws[:, 0]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratios = (low + (high - low) * draws[:, 1]).exp()
    return torch.stack(((areas * ratios).sqrt(), (areas / ratios).sqrt()), 1).clamp(max=1.0)


def move_boxes(boxes: Boxes, change: Change, image: int, size: int) -> Boxes:
    """The boxes of the image with this number in the batch, `size` pixels wide and high, after its change.

    A turned box becomes the upright one around it. What hardly shows any more is left out.
    """
    left, top, right, bottom = boxes.boxes.unbind(1)
    corners = torch.stack((left, top, right, top, right, bottom, left, bottom), 1).view(-1, 4, 2)
    moved = corners @ change.matrix[image].T + change.shift[image]
    around = torch.cat((moved.amin(1), moved.amax(1)), 1)
    inside = around.clamp(0, 1)
    erased = change.erased[image]
    hidden = torch.cat((inside[:, :2].maximum(erased[:2]), inside[:, 2:].minimum(erased[2:])), 1)
    area = _area(inside)
    kept = (
        (area >= MIN_VISIBLE_SHARE * _area(around))
        & ((inside[:, 2:] - inside[:, :2]) * size >= MIN_SIDE_PIXELS).all(1)
        & (_area(hidden) <= MAX_ERASED_SHARE * area)
    )
    return Boxes(inside[kept], boxes.labels[kept], boxes.crowd[kept])


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


class Augment:
    """The augmentations of a training; each call draws anew."""

    def __init__(self, chosen: training_pb2.Augmentations) -> None:
        self._chosen = chosen
        self._resamples = bool(chosen.rotation_degrees or chosen.crop_min_area)
        self._flips = bool(chosen.horizontal_flip or chosen.vertical_flip)
        self._nothing = not chosen.ListFields()

    def __call__(self, batch: Batch, device: torch.device) -> tuple[Tensor, Targets]:
        """Pixels (n, 3, size, size), 0 to 255, and targets, both on the device."""
        pixels = batch.pixels.to(device, non_blocking=True)
        if self._nothing:
            return pixels, targets_to(batch.targets, device)
        draws = torch.rand(len(batch.pixels), _DRAWS)
        changed = change(self._chosen, draws[:, :12])
        targets = batch.targets
        if isinstance(targets, tuple):
            targets = tuple(move_boxes(one, changed, image, pixels.shape[-1]) for image, one in enumerate(targets))
        targets = targets_to(targets, device)
        if isinstance(targets, Tensor) and targets.ndim == 3:
            labels = self._moved(targets[:, None].float(), changed, (float(NOT_LABELLED),), "nearest")
            targets = self._erased(labels, changed, (float(NOT_LABELLED),))[:, 0].to(torch.uint8)
        mean = tuple(255 * channel for channel in MEAN)
        recoloured = self._recoloured(self._moved(pixels.float(), changed, mean, "bilinear"), draws[:, 12:])
        return self._erased(recoloured, changed, mean), targets

    def _moved(self, images: Tensor, change: Change, outside: tuple[float, ...], mode: str) -> Tensor:
        """`outside` is what is there where nothing of the image is, for each channel."""
        size = images.shape[-1]
        if not self._resamples:
            if self._flips:
                turned = (change.matrix.diagonal(dim1=1, dim2=2) < 0).to(images.device)
                images = torch.where(turned[:, 0, None, None, None], images.flip(-1), images)
                images = torch.where(turned[:, 1, None, None, None], images.flip(-2), images)
            return images
        # kornia counts positions in pixels, from the middle of the first one.
        shift = change.matrix.sum(2) / 2 + size * change.shift - 0.5
        matrix = torch.cat((change.matrix, shift[:, :, None]), 2).to(images.device)
        middle = torch.tensor(outside, device=images.device).view(1, -1, 1, 1)
        return warp_affine(images - middle, matrix, (size, size), mode=mode) + middle

    def _recoloured(self, images: Tensor, draws: Tensor) -> Tensor:
        """From uniform draws, (n, 6)."""
        chosen = self._chosen
        if not (chosen.brightness or chosen.contrast or chosen.saturation or chosen.hue or chosen.blur):
            return images
        images = (images / 255).clamp(0, 1)
        factors = (2 * draws - 1).to(images.device)
        if chosen.brightness:
            images = enhance.adjust_brightness_accumulative(images, 1 + chosen.brightness * factors[:, 0])
        if chosen.contrast:
            images = enhance.adjust_contrast_with_mean_subtraction(images, 1 + chosen.contrast * factors[:, 1])
        if chosen.saturation:
            images = enhance.adjust_saturation_with_gray_subtraction(images, 1 + chosen.saturation * factors[:, 2])
        if chosen.hue:
            images = enhance.adjust_hue(images, 2 * math.pi * chosen.hue * factors[:, 3])
        return self._blurred(images.clamp(0, 1), draws[:, 4:]) * 255

    def _blurred(self, images: Tensor, draws: Tensor) -> Tensor:
        chosen = (draws[:, 0] < self._chosen.blur).nonzero()[:, 0]
        if not len(chosen):
            return images
        low, high = _BLUR_SIGMA
        sigma = (low + (high - low) * draws[chosen, 1:2]).expand(-1, 2).to(images.device)
        kernel = min(max(3, images.shape[-1] // 20), _MAX_BLUR_KERNEL) // 2 * 2 + 1
        chosen = chosen.to(images.device)
        return images.index_copy(0, chosen, gaussian_blur2d(images[chosen], (kernel, kernel), sigma))

    def _erased(self, images: Tensor, change: Change, instead: tuple[float, ...]) -> Tensor:
        if not self._chosen.erasing:
            return images
        middles = (torch.arange(images.shape[-1], device=images.device) + 0.5) / images.shape[-1]
        left, top, right, bottom = change.erased.to(images.device)[:, :, None].unbind(1)
        columns = (left <= middles) & (middles < right)
        rows = (top <= middles) & (middles < bottom)
        hole = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(hole, torch.tensor(instead, device=images.device).view(1, -1, 1, 1), images)
