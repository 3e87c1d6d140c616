"""Average precision and recall as COCO defines them, written down plainly and slowly.

https://cocodataset.org/#detection-eval and the text of Lin et al., Microsoft COCO; shares nothing with the libraries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner_agent.trainer.batch import Batch, Predictions

OVERLAPS = [0.5 + 0.05 * i for i in range(10)]
RECALLS = [i / 100 for i in range(101)]
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass
class Object:
    box: list[float]
    label: int
    crowd: bool = False
    score: float = 0.0

    @property
    def area(self) -> float:
        return max(self.box[2] - self.box[0], 0) * max(self.box[3] - self.box[1], 0)


Image = tuple[list[Object], list[Object]]


def images(batch: Batch, predictions: Predictions) -> list[Image]:
    """Truth and detections of each image, in pixels of the dataset."""
    found = []
    for targets, detected, size in zip(batch.targets, predictions, batch.sizes, strict=True):
        scale = size.double().repeat(2)
        truth = [
            Object((box.double() * scale).tolist(), int(label), bool(crowd))
            for box, label, crowd in zip(targets.boxes, targets.labels, targets.crowd, strict=True)
        ]
        objects = [
            Object((box.double() * scale).tolist(), int(label), score=float(score))
            for box, label, score in zip(detected.boxes, detected.labels, detected.scores, strict=True)
        ]
        found.append((truth, objects))
    return found


def metrics(images: Sequence[Image], classes: int) -> dict[str, float]:
    """The twelve figures; those of which there are no objects are left out."""
    told: dict[str, list[float]] = {}
    for label in range(classes):
        for area in AREAS:
            for most in (1, 10, 100):
                for overlap in OVERLAPS:
                    measured = average_precision(images, label, area, most, overlap)
                    if measured is None:
                        continue
                    precision, recall = measured
                    if most == 100:
                        told.setdefault("map" if area == "all" else f"map_{area}", []).append(precision)
                        if area != "all":
                            told.setdefault(f"ar_{area}", []).append(recall)
                        elif overlap in (OVERLAPS[0], OVERLAPS[5]):
                            told.setdefault(f"map_{round(overlap * 100)}", []).append(precision)
                    if area == "all":
                        told.setdefault(f"ar_{most}", []).append(recall)
    return {f"validation/{name}": sum(values) / len(values) for name, values in told.items()}


def average_precision(
    images: Sequence[Image], label: int, area: str, most: int, overlap: float
) -> tuple[float, float] | None:
    """Average precision and largest recall of one class; None where it has no objects of that size."""
    low, high = AREAS[area]
    outcomes: list[tuple[float, bool, bool]] = []
    wanted = 0
    for truth, found in images:
        of_class = [one for one in truth if one.label == label]
        ignored = [one.crowd or not low <= one.area <= high for one in of_class]
        order = [i for i in range(len(of_class)) if not ignored[i]] + [i for i in range(len(of_class)) if ignored[i]]
        wanted += ignored.count(False)
        taken: set[int] = set()
        best_first = sorted((one for one in found if one.label == label), key=lambda one: -one.score)[:most]
        for one in best_first:
            match = _match(one, of_class, ignored, order, taken, overlap)
            if match is not None:
                taken.add(match)
                outcomes.append((one.score, not ignored[match], ignored[match]))
            else:
                outcomes.append((one.score, False, not low <= one.area <= high))
    if not wanted:
        return None
    right = wrong = 0
    curve = []
    for _, hit, left_out in sorted(outcomes, key=lambda outcome: -outcome[0]):
        if left_out:
            continue
        right, wrong = right + hit, wrong + (not hit)
        curve.append((right / wanted, right / (right + wrong)))
    at_recalls = [max((precision for recall, precision in curve if recall >= at), default=0.0) for at in RECALLS]
    return float(np.mean(at_recalls)), curve[-1][0] if curve else 0.0


def _match(
    one: Object, truth: list[Object], ignored: list[bool], order: list[int], taken: set[int], overlap: float
) -> int | None:
    """The object that the detection overlaps most, a real one before one that is left out; the later of equal ones."""
    for group in (False, True):
        best, chosen = min(overlap, 1 - 1e-10), None
        for i in order:
            if ignored[i] is not group or (i in taken and not truth[i].crowd):
                continue
            if (found := iou(one, truth[i])) >= best:
                best, chosen = found, i
        if chosen is not None:
            return chosen
    return None


def iou(found: Object, truth: Object) -> float:
    """Intersection over union; with a crowd over the detection's own area."""
    width = min(found.box[2], truth.box[2]) - max(found.box[0], truth.box[0])
    height = min(found.box[3], truth.box[3]) - max(found.box[1], truth.box[1])
    both = max(width, 0.0) * max(height, 0.0)
    whole = found.area if truth.crowd else found.area + truth.area - both
    return both / whole if whole > 0 else 0.0
