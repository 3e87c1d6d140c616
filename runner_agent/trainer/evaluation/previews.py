"""Previews: a fixed few of the validation images, what is in them, and what the model says of them at each evaluation.

As data, not burnt into pixels. The images are chosen by the seed and spread over the classes, so that every evaluation
of a training, and of one that goes on from it, shows the same ones.
"""

import io
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from lightning.fabric import Fabric
from PIL import Image
from torch import Tensor, distributed

from protos.metrics.v1 import preview_pb2
from runner_agent.trainer.batch import NOT_LABELLED, Batch, Predictions
from runner_agent.trainer.datasets.loading import Data
from runner_agent.trainer.evaluation import annotations
from runner_agent.trainer.evaluation.base import Evaluation, Evaluator

MOST_IMAGES = 16
# Of so many images the classes are looked at, to choose among them.
_CANDIDATES = 128
_BATCH = 16
_JPEG_QUALITY = 85


def choose(data: Data, seed: int) -> tuple[int, ...]:
    """Indices of at most MOST_IMAGES validation images, in the order of their numbers."""
    count = min(len(data.validation), _CANDIDATES)
    candidates = random.Random(f"{seed}/previews").sample(data.validation, count)
    parts = [candidates[start : start + _BATCH] for start in range(0, count, _BATCH)]
    return spread([(index, shown) for batch in data.source.batches(parts) for index, shown in _classes(batch)])


def spread(candidates: Sequence[tuple[int, frozenset[int]]]) -> tuple[int, ...]:
    """At most MOST_IMAGES of the images, each given with its classes, such that no class is passed over. Pure.

    One after another the first image that has a class which was shown least so far; an image without any counts as a
    class of its own.
    """
    left = [(index, classes or frozenset({-1})) for index, classes in candidates]
    shown: Counter[int] = Counter()
    chosen: list[int] = []
    while left and len(chosen) < MOST_IMAGES:
        best = min(range(len(left)), key=lambda at: min(shown[one] for one in left[at][1]))
        index, classes = left.pop(best)
        shown.update(classes)
        chosen.append(index)
    return tuple(chosen)


def images(data: Data, indices: Sequence[int]) -> Iterator[preview_pb2.PreviewImage]:
    """What is told of the chosen images once. Raises DatasetFailure where one cannot be read any more."""
    (batch,) = data.source.batches([list(indices)])
    for number, index in enumerate(indices):
        path, picture = data.source.picture(index)
        width, height = batch.sizes[number].tolist()
        picture = picture.resize(annotations.small(width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        jpeg = io.BytesIO()
        picture.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
        yield preview_pb2.PreviewImage(
            number=number,
            path=path,
            width=width,
            height=height,
            jpeg=jpeg.getvalue(),
            truth=annotations.truth(batch, number),
        )


class Previewed:
    """An Evaluator that also keeps what is predicted of the images with these indices in the dataset."""

    def __init__(self, evaluator: Evaluator, indices: Sequence[int]) -> None:
        self._evaluator = evaluator
        self._numbers = {index: number for number, index in enumerate(indices)}
        self._found: dict[int, bytes] = {}

    def add(self, loss: Tensor, predictions: Predictions, batch: Batch) -> None:
        self._evaluator.add(loss, predictions, batch)
        for position, index in enumerate(batch.indices):
            if index in self._numbers:
                found = annotations.prediction(predictions, batch, position)
                self._found[self._numbers[index]] = found.SerializeToString()

    def result(self, fabric: Fabric) -> Evaluation:
        found = self._found
        if fabric.world_size > 1:
            parts: list[dict[int, bytes]] = [{} for _ in range(fabric.world_size)]
            distributed.all_gather_object(parts, found)
            found = {number: one for part in parts for number, one in part.items()}
        measured = self._evaluator.result(fabric)
        predictions = [
            preview_pb2.Prediction(number=number, annotation=preview_pb2.Annotation.FromString(found[number]))
            for number in sorted(found)
        ]
        return Evaluation(measured.metrics, measured.classes, measured.matrix, predictions)


def _classes(batch: Batch) -> Iterator[tuple[int, frozenset[int]]]:
    for position, index in enumerate(batch.indices):
        targets = batch.targets[position]
        labels = targets if isinstance(targets, Tensor) else targets.labels
        yield index, frozenset(torch.unique(labels).tolist()) - {NOT_LABELLED}
