"""Lists a detection with YOLO's text labels: a line `class x y width height` for each object, in shares of the image.

Boxes are of the upright image, as in COCO's format.
"""

import math
from pathlib import Path

import numpy as np

from protos.training.v1 import training_pb2
from runner_agent.trainer.datasets import names, paired
from runner_agent.trainer.datasets.listing import (
    MAX_CLASSES,
    Listing,
    Objects,
    by_path,
    printable,
)
from runner_agent.trainer.datasets.walk import Walk

LABELS = "labels"
_SUFFIXES = frozenset({".txt"})
# 100,000 objects; more is no image's.
_MAX_LABEL_BYTES = 8 * 1024 * 1024


class LabelError(Exception):
    """Labels that cannot be used. The text continues a sentence that begins with the image's name."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def scan(walk: Walk) -> Listing:
    """List the images of a detection. Raises ListingError where there is nothing to list."""
    classes = names.of_yolo(walk)
    found = paired.find(walk, LABELS, _SUFFIXES, "YOLO labels")
    bare = [item.path for item in found.items if not item.companion]
    if bare:
        message = f"{len(bare):,} images have no file in {LABELS} and count as background, for example "
        walk.problem(bare[0], message + printable(bare[0]), fatal=False)
    unused = [file.path for file in found.unused if Path(file.path).name != names.CLASSES]
    if unused:
        message = f"{len(unused):,} files in {LABELS} belong to no image and are ignored, for example "
        walk.problem(unused[0], message + printable(unused[0]), fatal=False)
    walk.tell_ignored("neither images nor labels, and ignored")
    return Listing(
        walk.root, training_pb2.DATASET_FORMAT_YOLO, tuple(classes), by_path(found.items), tuple(walk.problems)
    )


def read(root: Path, path: str, classes: int) -> Objects:
    """The objects in a file of labels; an empty one, or none, has no object. Raises LabelError.

    `classes` is the number of classes; 0 where nothing names them.
    """
    if not path:
        return _objects([])
    name = printable(path)
    file = root / path
    try:
        if not file.is_file():
            raise LabelError(f"has labels in {name}, which is not a regular file")
        if file.stat().st_size > _MAX_LABEL_BYTES:
            raise LabelError(f"has labels in {name}, which is above the limit of {_MAX_LABEL_BYTES >> 20} MiB")
        text = file.read_text("utf-8-sig")
    except OSError as error:
        raise LabelError(f"has labels in {name}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise LabelError(f"has labels in {name}, which is not a text in UTF-8") from None
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(_row(line.split(), classes))
            except ValueError as error:
                raise LabelError(f"has a wrong label in {name}, line {number}: {error}", number) from None
    return _objects(rows)


def _row(fields: list[str], classes: int) -> list[float]:
    """Class, left, top, right and bottom. Raises ValueError with what is wrong."""
    if len(fields) != 5:
        hint = "; outlines cannot be trained on" if len(fields) > 5 else ""
        raise ValueError(f"it has {len(fields)} numbers and not 5 (class, x, y, width, height){hint}")
    numbers = []
    for field in fields:
        try:
            number = float(field)
        except ValueError:
            raise ValueError(f"{printable(field[:40])} is not a number") from None
        if not math.isfinite(number):
            raise ValueError(f"{field} is not a number that can be used")
        numbers.append(number)
    label, x, y, width, height = numbers
    highest = (classes or MAX_CLASSES) - 1
    if label != int(label) or not 0 <= label <= highest:
        raise ValueError(f"there is no class {fields[0]}; classes are 0 to {highest}")
    if width < 0 or height < 0:
        raise ValueError(f"width and height are {fields[3]} and {fields[4]}, and must not be negative")
    if max(abs(value) for value in numbers[1:]) > 2:
        raise ValueError("the numbers are shares of the image's width and height, 0 to 1, not pixels")
    return [label, x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _objects(rows: list[list[float]]) -> Objects:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Objects(table[:, 1:], table[:, 0].astype(np.int64), np.zeros(len(table), bool), in_pixels=False)
