"""What lies at a dataset's location, whatever its format: images, what is known of them, and what is wrong.

Nothing is decoded here, and nothing but the standard library and numpy is imported.
"""

import os
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from protos.training.v1 import training_pb2

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Both keep a scan below about 1 GB of memory, and end one that was pointed at a whole disk.
MAX_IMAGES = 2_000_000
MAX_FOLDERS = 200_000
# More names than any known dataset has; above it, numbers of something else were taken for classes.
MAX_CLASSES = 10_000
# Sizes of what is no file that can be read.
NOT_REGULAR = -1
MISSING = -2

TASKS: dict[int, training_pb2.Task.ValueType] = {
    training_pb2.DATASET_FORMAT_IMAGE_FOLDER: training_pb2.TASK_CLASSIFICATION,
    training_pb2.DATASET_FORMAT_COCO: training_pb2.TASK_DETECTION,
    training_pb2.DATASET_FORMAT_YOLO: training_pb2.TASK_DETECTION,
    training_pb2.DATASET_FORMAT_MASK_FOLDER: training_pb2.TASK_SEGMENTATION,
}


class Group(IntEnum):
    """To which of a dataset's own folders an image belongs; NONE where it is split by ratio."""

    NONE = 0
    TRAIN = 1
    VALIDATION = 2


@dataclass(frozen=True, eq=False, slots=True)
class Objects:
    """The objects of one image, as they are written down: not clipped to it."""

    # float64 (k, 4): left, top, right, bottom.
    boxes: np.ndarray
    # int64 (k,): index of the class.
    labels: np.ndarray
    # bool (k,): stands for several objects.
    crowd: np.ndarray
    # True: pixels of the upright image; False: shares of its width and height.
    in_pixels: bool


@dataclass(frozen=True, eq=False, slots=True)
class Item:
    """One image and where its target is to be found.

    `path` is relative to the dataset's location, `label` the index of the class of a classification.
    """

    path: str
    label: int
    # NOT_REGULAR for a pipe, say, which must not be opened; MISSING for what is listed and not there.
    size_bytes: int
    group: Group = Group.NONE
    # YOLO: the text file; mask folder: the mask; relative as well. Empty: there is none.
    companion: str = ""
    # COCO.
    objects: Objects | None = None
    # What the image should measure, in pixels; zeros where nothing says so.
    size: tuple[int, int] = (0, 0)
    # Why the image cannot be used, as far as its entry tells; continues a sentence that begins with its name.
    fault: str = ""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file or folder; `path` is relative, empty for the dataset as a whole."""

    path: str
    message: str
    # True if no training can start because of it.
    fatal: bool
    # From 1; zero where it is not about a line.
    line: int = 0


@dataclass(frozen=True)
class Listing:
    """What lies at a location: items sorted by path.

    `classes` is empty where nothing names them; they are then the numbers that are found, from 0.
    """

    root: Path
    # Of `tether.training.v1.DatasetFormat`.
    format: int
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    # Mask folder: the colour of each class as red × 65536 + green × 256 + blue; empty: masks hold class numbers.
    colours: tuple[int, ...] = ()

    @property
    def task(self) -> training_pb2.Task.ValueType:
        return TASKS[self.format]

    @property
    def fatal(self) -> Problem | None:
        """The first problem because of which no training can start."""
        return next((problem for problem in self.problems if problem.fatal), None)

    @property
    def grouped(self) -> bool:
        """Whether the dataset itself says what is to be trained on and what to validate on."""
        return bool(self.items) and self.items[0].group is not Group.NONE


class ListingError(Exception):
    """A dataset that cannot be listed at all."""

    def __init__(self, message: str, path: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.problem = Problem(printable(path), message, fatal=True, line=line)


def printable(path: str) -> str:
    """File names need not be UTF-8 nor fit on a line; what is shown or sent must."""
    try:
        text = os.fsencode(path).decode("utf-8", "replace")
    except UnicodeEncodeError:
        # Half a character, which some texts can write and no file can be named.
        text = path.encode("utf-8", "replace").decode()
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def by_path(items: list[Item]) -> tuple[Item, ...]:
    """In the order of the bytes of their paths, which no locale changes."""
    return tuple(sorted(items, key=lambda item: os.fsencode(item.path)))
