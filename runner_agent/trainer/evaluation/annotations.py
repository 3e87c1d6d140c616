"""What is in an image, and what a model says of it, as `tether.metrics.v1.Annotation`."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from protos.metrics.v1 import preview_pb2
from runner_agent.trainer.batch import Batch, Boxes, Detections, Predictions

LONGEST_SIDE = 640
_MOST_CLASSES = 5
_LEAST_CONFIDENCE = 0.05
_MOST_BOXES = 100
# Of one label map: sixteen of them stay below a megabyte. A map with more is made coarser.
MOST_RUNS = 8192
# A 640th of an image, and more than confidences are good for.
_SHARE_DIGITS, _CONFIDENCE_DIGITS = 5, 4

Bytes = npt.NDArray[np.uint8]


def small(width: int, height: int) -> tuple[int, int]:
    """Width and height of an image of this size made small: at most LONGEST_SIDE, and its form."""
    factor = min(1.0, LONGEST_SIDE / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def truth(batch: Batch, position: int) -> preview_pb2.Annotation:
    """Of one image of the batch."""
    targets = batch.targets[position]
    if isinstance(targets, Boxes):
        return preview_pb2.Annotation(boxes=_boxes(targets.boxes, targets.labels, None))
    if not targets.ndim:
        return preview_pb2.Annotation(labels=[preview_pb2.ScoredClass(class_index=int(targets.item()), confidence=1)])
    return _label_map(targets, batch, position)


def prediction(predictions: Predictions, batch: Batch, position: int) -> preview_pb2.Annotation:
    """Of one image of the batch."""
    found = predictions[position]
    if isinstance(found, Detections):
        shown = (found.scores >= _LEAST_CONFIDENCE) & found.boxes.isfinite().all(1)
        scores = found.scores[shown]
        order = scores.argsort(descending=True, stable=True)[:_MOST_BOXES]
        return preview_pb2.Annotation(
            boxes=_boxes(found.boxes[shown][order], found.labels[shown][order], scores[order])
        )
    if found.ndim == 1:
        best = found.nan_to_num(nan=0.0).topk(min(_MOST_CLASSES, len(found)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return preview_pb2.Annotation(
            labels=[
                preview_pb2.ScoredClass(class_index=index, confidence=round(value, _CONFIDENCE_DIGITS))
                for index, value in pairs
            ]
        )
    return _label_map(found, batch, position)


def _boxes(boxes: Tensor, labels: Tensor, scores: Tensor | None) -> list[preview_pb2.Box]:
    confidences = [1.0] * len(boxes) if scores is None else scores.tolist()
    return [
        preview_pb2.Box(
            left=round(left, _SHARE_DIGITS),
            top=round(top, _SHARE_DIGITS),
            right=round(right, _SHARE_DIGITS),
            bottom=round(bottom, _SHARE_DIGITS),
            class_index=label,
            confidence=round(confidence, _CONFIDENCE_DIGITS),
        )
        for (left, top, right, bottom), label, confidence in zip(
            boxes.clamp(0, 1).tolist(), labels.tolist(), confidences, strict=True
        )
    ]


def _label_map(classes: Tensor, batch: Batch, position: int) -> preview_pb2.Annotation:
    width, height = batch.sizes[position].tolist()
    return preview_pb2.Annotation(label_map=label_map(classes.cpu().numpy(), *small(width, height)))


def label_map(classes: Bytes, width: int, height: int) -> preview_pb2.LabelMap:
    """A label map (rows, columns) stretched to this size with the nearest pixels, or coarser by halves where it would
    have more than MOST_RUNS runs."""
    while True:
        rows = (np.arange(height) * 2 + 1) * classes.shape[0] // (2 * height)
        columns = (np.arange(width) * 2 + 1) * classes.shape[1] // (2 * width)
        flat = classes[np.ix_(rows, columns)].ravel()
        begins = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
        if len(begins) <= MOST_RUNS:
            lengths = np.diff(begins, append=len(flat))
            return preview_pb2.LabelMap(
                width=width, height=height, classes=flat[begins].tolist(), lengths=lengths.tolist()
            )
        width, height = max(1, width // 2), max(1, height // 2)
