"""The confusion matrix of a detector: which object was found as what. Pure."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protos.training.v1 import training_pb2
from runner_agent.trainer.evaluation.matrix import BACKGROUND

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# An object is found where boxes overlap by half; a detection counts from a quarter of full confidence on, as in
# https://docs.ultralytics.com/reference/utils/metrics.
IOU_THRESHOLD = 0.5
CONFIDENCE_THRESHOLD = 0.25


class ObjectMatrix:
    """Counts objects, image by image.

    Of the detections with at least CONFIDENCE_THRESHOLD the surest one chooses first: of the objects that are still
    free the one that it overlaps most, by IOU_THRESHOLD or more, whatever its class; of equal overlaps one of its own
    class, then the first. A detection without an object counts in the column of the background, unless half of it lies
    in an object that stands for several; an object without a detection counts in the row of the background.
    """

    def __init__(self, classes: int) -> None:
        # Predictions in rows, truth in columns, the background last.
        self._counts = np.zeros((classes + 1, classes + 1), np.int64)

    def add(
        self,
        boxes: Floats,
        labels: Integers,
        crowd: npt.NDArray[np.bool_],
        found: Floats,
        found_labels: Integers,
        scores: Floats,
    ) -> None:
        """One image; boxes as left, top, right, bottom in one unit, detections the surest first."""
        sure = scores >= CONFIDENCE_THRESHOLD
        found, found_labels = found[sure], found_labels[sure]
        overlap = overlaps(found, boxes[~crowd])
        excused = np.any(shares_inside(found, boxes[crowd]) >= IOU_THRESHOLD, axis=1)
        background = len(self._counts) - 1
        truths = labels[~crowd]
        free: npt.NDArray[np.bool_] = np.ones(len(truths), np.bool_)
        for at, label in enumerate(found_labels):
            chosen = _choice(np.where(free, overlap[at], -1.0), np.asarray(truths == label))
            if chosen is not None:
                free[chosen] = False
                self._counts[label, truths[chosen]] += 1
            elif not excused[at]:
                self._counts[label, background] += 1
        self._counts[background] += np.bincount(truths[free], minlength=background + 1)

    def result(self, classes: Sequence[str]) -> training_pb2.ConfusionMatrix:
        return training_pb2.ConfusionMatrix(
            classes=[*classes, BACKGROUND],
            counts=self._counts.flatten().tolist(),
            background=True,
            iou_threshold=IOU_THRESHOLD,
        )


def _choice(overlap: Floats, same_class: npt.NDArray[np.bool_]) -> int | None:
    if not len(overlap) or overlap.max() < IOU_THRESHOLD:
        return None
    best = overlap == overlap.max()
    return int(np.flatnonzero(best & same_class if (best & same_class).any() else best)[0])


def overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of each of n boxes with each of m, (n, m); 0 where the union is empty."""
    both = _intersections(first, second)
    union = _areas(first)[:, None] + _areas(second)[None, :] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def shares_inside(first: Floats, second: Floats) -> Floats:
    """Which share of each of n boxes lies in each of m, (n, m); 0 for an empty box."""
    both = _intersections(first, second)
    own = np.broadcast_to(_areas(first)[:, None], both.shape)
    return np.divide(both, own, out=np.zeros_like(both), where=own > 0)


def _intersections(first: Floats, second: Floats) -> Floats:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    areas: Floats = (high - low).clip(min=0).prod(2)
    return areas


def _areas(boxes: Floats) -> Floats:
    areas: Floats = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1)
    return areas
