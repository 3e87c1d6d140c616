"""Which evaluations, preview images and facts are not stored, because they are too large or make no sense. Pure."""

from protos.metrics.v1 import ingest_pb2 as pb
from protos.metrics.v1 import preview_pb2

# Classes of a matrix, and those whose metrics are told one by one.
_MAX_CLASSES = 1000
_MAX_CLASS_METRICS = 20
_MAX_IMAGES = 64
_MAX_JPEG_BYTES = 1 << 20
_MAX_PREDICTION_BYTES = 4 << 20
_MAX_BOXES = 1000
_MAX_SIDE = 4096
_MAX_FACT_CLASSES = 100_000
_JPEG = b"\xff\xd8\xff"


def refusal(record: pb.Record) -> str | None:
    """Why an evaluation, a preview image or facts are not stored; None where they are."""
    match record.WhichOneof("record"):
        case "preview_image":
            return _of_image(record.preview_image)
        case "facts":
            return _above("classes of a training", len(record.facts.classes), _MAX_FACT_CLASSES)
        case _:
            return _of_evaluation(record.evaluation)


def _of_evaluation(evaluation: pb.Evaluation) -> str | None:
    classes = len(evaluation.confusion_matrix.classes)
    counts = len(evaluation.confusion_matrix.counts)
    most = max((len(one.metrics) for one in evaluation.classes), default=0)
    refusal = (
        _above("classes of a confusion matrix", classes, _MAX_CLASSES)
        or _above("classes with metrics", len(evaluation.classes), _MAX_CLASSES)
        or _above("metrics of a class", most, _MAX_CLASS_METRICS)
        or _above("predictions of preview images", len(evaluation.predictions), _MAX_IMAGES)
    )
    if refusal is None and counts != classes**2:
        return f"a confusion matrix of {classes} classes has {classes**2} counts, not {counts}"
    for prediction in evaluation.predictions if refusal is None else ():
        refusal = refusal or _of_number(prediction.number) or _of_annotation(prediction.annotation)
    if refusal is None and evaluation.predictions:
        size = sum(prediction.ByteSize() for prediction in evaluation.predictions)
        return _above("bytes of the predictions of preview images", size, _MAX_PREDICTION_BYTES)
    return refusal


def _of_image(image: preview_pb2.PreviewImage) -> str | None:
    refusal = (
        _of_number(image.number)
        or _above("bytes of a preview image", len(image.jpeg), _MAX_JPEG_BYTES)
        or _of_annotation(image.truth)
    )
    if refusal is None and not image.jpeg.startswith(_JPEG):
        return "a preview image is no JPEG"
    return refusal


def _of_number(number: int) -> str | None:
    return None if 0 <= number < _MAX_IMAGES else f"the number of a preview image is {number}, not 0 to 63"


def _of_annotation(annotation: preview_pb2.Annotation) -> str | None:
    label_map = annotation.label_map
    pixels = sum(label_map.lengths)
    if len(label_map.classes) != len(label_map.lengths) or pixels != label_map.width * label_map.height:
        return f"a label map of {label_map.width} × {label_map.height} has runs of {pixels} pixels"
    side = max(label_map.width, label_map.height)
    boxes = len(annotation.boxes) + len(annotation.labels)
    return _above("pixels of a label map's side", side, _MAX_SIDE) or _above(
        "boxes and labels of a preview image", boxes, _MAX_BOXES
    )


def _above(what: str, value: int, limit: int) -> str | None:
    return f"{what}: {value} is above the limit of {limit}" if value > limit else None
