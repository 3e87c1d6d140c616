"""Batches of the three tasks made by hand, with predictions that a model might give of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from runner_agent.trainer.batch import NOT_LABELLED, Batch, Boxes, Detections, Predictions, Targets
from runner_agent.trainer.datasets.loading import Data

Sample = tuple[Batch, Predictions]


def classification(
    seed: int, images: int, classes: int, *, first: int = 0, size: int = 8, right: float = 0.6
) -> Sample:
    """A batch of labels, and probabilities of which about the share `right` is highest for the label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=generator)
    scores = torch.randn(images, classes, generator=generator)
    helped = torch.rand(images, generator=generator) < right
    scores[helped, labels[helped]] += 3
    return _batch(first, labels, size, generator), scores.softmax(1)


def segmentation(seed: int, images: int, classes: int, *, first: int = 0, size: int = 16) -> Sample:
    """A batch of label maps in blocks of four pixels with unlabelled ones among them, and predictions."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(classes, (images, size // 4, size // 4), generator=generator)
    maps = blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)
    noise = torch.randint(classes, maps.shape, generator=generator)
    chance = torch.rand(maps.shape, generator=generator)
    predicted = torch.where(chance < 0.3, noise, maps).to(torch.uint8)
    targets = torch.where(chance > 0.9, torch.tensor(NOT_LABELLED), maps).to(torch.uint8)
    return _batch(first, targets, size, generator), predicted


def detection(seed: int, images: int, classes: int, *, first: int = 0, size: int = 32, ties: bool = True) -> Sample:
    """A batch of objects of all sizes, and detections: moved, of a wrong class, doubled and invented ones.

    Some images are empty, some objects are crowds, some images have no detections; with `ties` confidences are few.
    """
    generator = np.random.default_rng(seed)
    targets, found = [], []
    for _ in range(images):
        count = int(generator.integers(0, 6))
        boxes = _boxes(generator, count)
        labels = generator.integers(0, classes, count)
        targets.append(
            Boxes(
                torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
                torch.tensor(labels, dtype=torch.int64),
                torch.tensor(generator.random(count) < 0.2),
            )
        )
        found.append(_found(generator, boxes, labels, classes, ties))
    batch = _batch(first, tuple(targets), size, torch.Generator().manual_seed(seed))
    return batch, tuple(found)


def joined(parts: Iterable[Targets | Predictions]) -> torch.Tensor:
    """The tensors of several batches as one; of a task whose targets and predictions are tensors."""
    return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])


def _boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    sides = generator.choice([0.02, 0.1, 0.5], (count, 1)) * generator.uniform(0.7, 1.4, (count, 2))
    corners = generator.uniform(0, 1 - sides)
    return np.concatenate([corners, corners + sides], 1)


def _found(
    generator: np.random.Generator, boxes: np.ndarray, labels: np.ndarray, classes: int, ties: bool
) -> Detections:
    if generator.random() < 0.15:
        boxes, labels = boxes[:0], labels[:0]
    double = generator.random(len(boxes)) < 0.4
    invented = int(generator.integers(0, 3))
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + sides * generator.normal(0, 0.08, boxes.shape)
    every = np.concatenate([moved, boxes[double], _boxes(generator, invented)]).clip(0, 1)
    named = np.concatenate([labels, labels[double], generator.integers(0, classes, invented)])
    wrong = generator.random(len(named)) < 0.2
    named = np.where(wrong, generator.integers(0, classes, len(named)), named)
    scores = generator.choice([0.1, 0.3, 0.5, 0.9], len(named)) if ties else generator.random(len(named))
    order = np.argsort(-scores, kind="stable")
    return Detections(
        torch.tensor(every[order], dtype=torch.float32).view(-1, 4),
        torch.tensor(named[order], dtype=torch.int64),
        torch.tensor(scores[order], dtype=torch.float32),
    )


def _batch(first: int, targets: Targets, size: int, generator: torch.Generator) -> Batch:
    images = len(targets)
    pixels = torch.randint(256, (images, 3, size, size), dtype=torch.uint8, generator=generator)
    sizes = torch.randint(200, 900, (images, 2), generator=generator)
    return Batch(tuple(range(first, first + images)), pixels, targets, sizes)


@dataclass(frozen=True)
class Held:
    """A source of images that is one batch in memory; its pictures are of the sizes that the batch names."""

    held: Batch

    def batches(self, indices: Sequence[Sequence[int]]) -> Iterator[Batch]:
        for chosen in indices:
            at = [self.held.indices.index(index) for index in chosen]
            targets = self.held.targets
            picked = targets[at] if isinstance(targets, torch.Tensor) else tuple(targets[one] for one in at)
            yield Batch(tuple(chosen), self.held.pixels[at], picked, self.held.sizes[at])

    def picture(self, index: int) -> tuple[str, Image.Image]:
        width, height = self.held.sizes[self.held.indices.index(index)].tolist()
        return f"images/{index}.png", Image.new("RGB", (width, height), (index % 256, 100, 50))


def data(batch: Batch, classes: Sequence[str]) -> Data:
    """A dataset of which all images are held out."""
    return Data(tuple(classes), Held(batch), (), batch.indices, (), tuple(0 for _ in classes))
