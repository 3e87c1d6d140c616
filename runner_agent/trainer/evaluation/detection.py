"""Measures an object detector as COCO does: average precision and recall over overlaps and sizes, and a matrix."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from faster_coco_eval import COCO, COCOeval_faster
from lightning.fabric import Fabric
from torch import Tensor, distributed

from runner_agent.trainer.batch import Batch, Boxes, Detections, Predictions
from runner_agent.trainer.evaluation.base import ClassMetrics, Evaluation
from runner_agent.trainer.evaluation.losses import MeanLoss
from runner_agent.trainer.evaluation.matches import ObjectMatrix
from runner_agent.trainer.retention import LOSS, MAP

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

# Of the precision and recall arrays: the index among COCO's areas and numbers of detections.
_ALL, _SIZES = 0, {"small": 1, "medium": 2, "large": 3}
_DETECTIONS = {"1": 0, "10": 1, "100": 2}
_IOU_50, _IOU_75 = 0, 5
_ABSENT = -1


@dataclass(frozen=True)
class Image:
    """One validation image: what is in it and what was found, boxes as left, top, right, bottom."""

    # In shares of width and height.
    boxes: Floats
    labels: Integers
    crowd: Booleans
    found: Floats
    found_labels: Integers
    scores: Floats
    # Width and height in the dataset, in pixels.
    size: Integers


class Detection:
    """An Evaluator for detections.

    `validation/map` is the mean over overlaps (IoU 0.50 to 0.95 by 0.05) and over the classes that have objects of the
    average precision at 101 recalls; `map_50` and `map_75` are at one overlap, `map_small`, `map_medium` and
    `map_large` at objects below 32², below 96² and above that many pixels of the image in the dataset; `ar_1`, `ar_10`
    and `ar_100` are the mean recall with at most so many detections of a class in an image
    (https://cocodataset.org/#detection-eval). The area of an object is that of its box. An object that stands for
    several is not looked for, and detections inside are not counted. Without any objects the metrics are not a number;
    sizes of which there are no objects are left out.
    """

    def __init__(self, classes: Sequence[str], device: torch.device, *, with_matrix: bool) -> None:
        self._classes = classes
        self._loss = MeanLoss(device)
        self._with_matrix = with_matrix
        # By index in the dataset, so that none is counted twice.
        self._images: dict[int, Image] = {}

    def add(self, loss: Tensor, predictions: Predictions, batch: Batch) -> None:
        assert not isinstance(predictions, Tensor)
        assert not isinstance(batch.targets, Tensor)
        self._loss.add(loss, len(batch.targets))
        for index, image in zip(batch.indices, _images(batch.targets, predictions, batch.sizes), strict=True):
            self._images[index] = image

    def result(self, fabric: Fabric) -> Evaluation:
        images = self._images
        if fabric.world_size > 1:
            parts: list[dict[int, Image]] = [{} for _ in range(fabric.world_size)]
            distributed.all_gather_object(parts, images)
            images = {index: image for part in parts for index, image in part.items()}
        ordered = [images[index] for index in sorted(images)]
        metrics, classes = average_precisions(ordered, self._classes)
        told = None
        if self._with_matrix:
            objects = ObjectMatrix(len(self._classes))
            for one in ordered:
                objects.add(one.boxes, one.labels, one.crowd, one.found, one.found_labels, one.scores)
            told = objects.result(self._classes)
        return Evaluation({LOSS: self._loss.result(fabric), **metrics}, classes, told)


def average_precisions(
    images: Sequence[Image], classes: Sequence[str]
) -> tuple[dict[str, float], tuple[ClassMetrics, ...]]:
    """Metrics over all images, and each class's."""
    truth, found = COCO(), COCO()
    names = {
        "images": [{"id": number} for number in range(1, len(images) + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
    }
    truth.dataset = {**names, "annotations": _annotations(images)}
    truth.createIndex()
    found.dataset = {**names, "annotations": _results(images)}
    found.createIndex()
    coco = COCOeval_faster(truth, found, "bbox", print_function=lambda *_: None)
    coco.evaluate()
    coco.accumulate()
    # (overlaps, recalls, classes, areas, numbers of detections); -1 where there is no such object.
    precision = np.asarray(coco.eval["precision"])
    # (overlaps, classes, areas, numbers of detections).
    recall = np.asarray(coco.eval["recall"])
    metrics = {
        MAP: _mean(precision[:, :, :, _ALL, -1]),
        f"{MAP}_50": _mean(precision[_IOU_50, :, :, _ALL, -1]),
        f"{MAP}_75": _mean(precision[_IOU_75, :, :, _ALL, -1]),
        **{f"validation/ar_{most}": _mean(recall[:, :, _ALL, at]) for most, at in _DETECTIONS.items()},
    }
    for size, area in _SIZES.items():
        if (precision[:, :, :, area, -1] > _ABSENT).any():
            metrics[f"{MAP}_{size}"] = _mean(precision[:, :, :, area, -1])
            metrics[f"validation/ar_{size}"] = _mean(recall[:, :, area, -1])
    objects = [one.labels[~one.crowd] for one in images]
    support = np.bincount(np.concatenate([np.empty(0, np.int64), *objects]), minlength=len(classes))
    return metrics, tuple(
        ClassMetrics(name, _of_class(precision[:, :, at, _ALL, -1], recall[:, at, _ALL, -1]), int(support[at]))
        for at, name in enumerate(classes)
    )


def _of_class(precision: Floats, recall: Floats) -> dict[str, float]:
    if not (precision > _ABSENT).any():
        return {}
    return {
        "average_precision": _mean(precision),
        "average_precision_50": _mean(precision[_IOU_50]),
        "average_recall": _mean(recall),
    }


def _mean(values: Floats) -> float:
    there = values[values > _ABSENT]
    return float(there.mean()) if len(there) else float("nan")


def _images(targets: Sequence[Boxes], found: Sequence[Detections], sizes: Tensor) -> list[Image]:
    """Each image's truth and detections in the memory of the CPU, with one transfer of each kind a batch."""
    boxes = _floats([one.boxes for one in targets])
    labels = _split([one.labels for one in targets], np.int64)
    crowd = _split([one.crowd for one in targets], np.bool_)
    found_boxes = _floats([one.boxes for one in found])
    found_labels = _split([one.labels for one in found], np.int64)
    scores = _floats([one.scores for one in found])
    images = []
    for i, size in enumerate(sizes.cpu().numpy()):
        # A model that diverges predicts what is no number.
        usable = np.isfinite(found_boxes[i]).all(1) & np.isfinite(scores[i])
        order = np.argsort(-scores[i][usable], kind="stable")
        chosen = np.flatnonzero(usable)[order]
        inside = found_boxes[i][chosen].clip(0, 1)
        images.append(Image(boxes[i], labels[i], crowd[i], inside, found_labels[i][chosen], scores[i][chosen], size))
    return images


def _floats(parts: Sequence[Tensor]) -> list[Floats]:
    # What a model computed in bfloat16 numpy does not know.
    return _split([part.double() for part in parts], np.float64)


def _split(parts: Sequence[Tensor], kind: type[Number]) -> list[npt.NDArray[Number]]:
    joined: npt.NDArray[Number] = torch.cat(list(parts)).cpu().numpy().astype(kind)
    return np.split(joined, np.cumsum([len(part) for part in parts])[:-1])


def _annotations(images: Sequence[Image]) -> list[dict[str, object]]:
    return _numbered(
        _annotation(number, label, box, iscrowd=int(crowd))
        for number, one in enumerate(images, 1)
        for label, box, crowd in zip(one.labels, one.boxes * np.tile(one.size, 2), one.crowd, strict=True)
    )


def _results(images: Sequence[Image]) -> list[dict[str, object]]:
    return _numbered(
        _annotation(number, label, box, iscrowd=0, score=float(score))
        for number, one in enumerate(images, 1)
        for label, box, score in zip(one.found_labels, one.found * np.tile(one.size, 2), one.scores, strict=True)
    )


def _numbered(annotations: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    """With ids from 1: COCO's tools take 0 for none."""
    return [{**annotation, "id": number} for number, annotation in enumerate(annotations, 1)]


def _annotation(image: int, label: int, box: Floats, **more: float) -> dict[str, object]:
    left, top, right, bottom = box.tolist()
    width, height = max(right - left, 0.0), max(bottom - top, 0.0)
    return {
        "image_id": image,
        "category_id": int(label) + 1,
        "bbox": [left, top, width, height],
        "area": width * height,
        **more,
    }
