"""Lists a detection in COCO's format (https://cocodataset.org/#format-data): images and JSON files of annotations.

Boxes are of the upright image: one whose EXIF orientation turns it is turned before it is measured and trained on, as
annotation tools show it.
"""

import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from protos.training.v1 import training_pb2
from runner_agent.trainer.datasets.listing import (
    MAX_CLASSES,
    MAX_IMAGES,
    MISSING,
    Group,
    Item,
    Listing,
    ListingError,
    Objects,
    by_path,
    printable,
)
from runner_agent.trainer.datasets.walk import TRAIN, VALIDATION, Walk

# The annotations of COCO's 118,287 training images have 448 MiB and take about 1.4 GB of memory while they are read.
MAX_ANNOTATION_BYTES = 512 * 1024 * 1024
# Names of a file of annotations beside its images.
NAMES = ("annotations.json", "_annotations.coco.json")
_FOLDER = "annotations"
_PREFIX = "instances_"
_WHAT = "annotations"
# Pixels; sums and products of such numbers are still exact.
_LARGEST = 2**24


@dataclass(frozen=True)
class Source:
    """A file of annotations, and the folders in which its images may lie, the likeliest first."""

    path: str
    group: Group
    folders: tuple[str, ...]


@dataclass
class _Image:
    name: str
    size: tuple[int, int]
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    fault: str = ""


def scan(walk: Walk) -> Listing:
    """List the images of a detection. Raises ListingError where the annotations cannot be used."""
    sources = find(walk)
    if not sources:
        places = f"{NAMES[0]}, {NAMES[1]} or {_FOLDER}/{_PREFIX}train.json"
        raise ListingError(f"there are no COCO annotations; put them into {places}")
    classes: list[str] = []
    items: list[Item] = []
    for source in sources:
        content = _load(walk, source.path)
        items += _Reader(walk, source, content, classes).items()
    if not any(item.objects is not None and len(item.objects.labels) for item in items):
        raise ListingError("there is not one object in the annotations; a detection learns from boxes", sources[0].path)
    return Listing(walk.root, training_pb2.DATASET_FORMAT_COCO, tuple(classes), by_path(items), tuple(walk.problems))


def find(walk: Walk) -> list[Source]:
    """The files of annotations, that of the training images first; empty where there is none."""
    for name in NAMES:
        if walk.is_file(name):
            return [Source(name, Group.NONE, ("", "images"))]
    groups = {Group.TRAIN: (TRAIN,), Group.VALIDATION: VALIDATION}
    beside = [
        Source(f"{folder}/{name}", group, (folder, f"{folder}/images"))
        for group, folders in groups.items()
        for folder in folders
        for name in NAMES
        if walk.is_file(f"{folder}/{name}")
    ]
    apart = beside or [_apart(path, group) for group, names in groups.items() for path in _in_folder(walk, names)]
    # Two files to train on would be a choice that nobody made.
    found = [source for group in groups for source in [one for one in apart if one.group is group][:1]]
    for source in apart:
        if source not in found:
            walk.problem(source.path, f"{source.path} is ignored, for {found[0].path} is there as well", fatal=False)
    if beside:
        walk.tell_unused(walk.subfolders(""), {source.folders[0] for source in apart})
    if len(found) == 1:
        return [Source(found[0].path, Group.NONE, found[0].folders)]
    return found


def _in_folder(walk: Walk, names: tuple[str, ...]) -> list[str]:
    """Files in the folder `annotations` that are for one of the parts, as in instances_train2017.json."""
    if not (walk.root / _FOLDER).is_dir():
        return []
    found = []
    for entry in walk.entries(_FOLDER):
        part = entry.name.removesuffix(".json").removeprefix(_PREFIX).rstrip("0123456789")
        if entry.name.endswith(".json") and part in names:
            found.append(f"{_FOLDER}/{entry.name}")
    return found


def _apart(path: str, group: Group) -> Source:
    part = posixpath.basename(path).removesuffix(".json").removeprefix(_PREFIX)
    plain = part.rstrip("0123456789")
    return Source(path, group, (part, f"images/{part}", plain, f"images/{plain}", "images", ""))


def _load(walk: Walk, path: str) -> dict[str, Any]:
    text = walk.read(path, MAX_ANNOTATION_BYTES, _WHAT)
    name = printable(path)
    try:
        content = json.loads(text, object_hook=_without_outlines)
    except json.JSONDecodeError as error:
        message = f"{name} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        raise ListingError(message, path, error.lineno) from None
    except (ValueError, RecursionError) as error:
        raise ListingError(f"{name} is not JSON in UTF-8: {error}", path) from None
    if not isinstance(content, dict):
        raise ListingError(f"{name} is JSON, but no object with images, annotations and categories", path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise ListingError(f"{name} has no list `{key}`; see the format of COCO", path)
    return content


def _without_outlines(entry: dict[str, Any]) -> dict[str, Any]:
    # Most of the file, and never used: boxes are what a detection learns.
    entry.pop("segmentation", None)
    return entry


class _Reader:
    def __init__(self, walk: Walk, source: Source, content: dict[str, Any], classes: list[str]) -> None:
        self._walk, self._source, self._content = walk, source, content
        self._path = printable(source.path)
        # Category id → index of the class. `classes` grows: train and val may number the same names differently.
        self._labels = self._categories(classes)
        self._classes = classes
        self._base = source.folders[0]

    def items(self) -> Iterator[Item]:
        images = self._images()
        self._annotate(images)
        for image in images.values():
            yield self._item(image)

    def _fail(self, message: str) -> ListingError:
        return ListingError(f"{self._path}: {message}", self._source.path)

    def _identified(self, entry: object, what: str, key: str) -> tuple[int, str]:
        """Number and name of an entry."""
        number, name = (entry.get("id"), entry.get(key)) if isinstance(entry, dict) else (None, None)
        if not _whole(number) or not isinstance(name, str) or not _is_text(name):
            raise self._fail(f"an entry of `{what}` has no whole number as `id` and text as `{key}`: {_short(entry)}")
        return number, name

    def _categories(self, classes: list[str]) -> dict[int, int]:
        """Ids may have holes; classes are in the order of the ids."""
        named: dict[int, str] = {}
        for entry in self._content["categories"]:
            number, name = self._identified(entry, "categories", "name")
            if number in named:
                raise self._fail(f"category id {number} occurs twice ({named[number]} and {name})")
            if name in named.values():
                raise self._fail(f"two categories are named {name}; give them one id")
            named[number] = name
        if not named or len(named) > MAX_CLASSES:
            raise self._fail(f"there are {len(named):,} categories; from 1 to {MAX_CLASSES:,} can be learned")
        labels = {}
        for number in sorted(named):
            name = printable(named[number])
            if name not in classes:
                classes.append(name)
            labels[number] = classes.index(name)
        return labels

    def _images(self) -> dict[int, _Image]:
        images: dict[int, _Image] = {}
        names: dict[str, int] = {}
        entries = self._content["images"]
        if len(entries) > MAX_IMAGES:
            raise self._fail(f"there are more than {MAX_IMAGES:,} images; split the dataset")
        for entry in entries:
            number, name = self._identified(entry, "images", "file_name")
            if number in images:
                both = f"{printable(images[number].name)} and {printable(name)}"
                raise self._fail(f"image id {number} occurs twice ({both}); number the images anew")
            if name in names:
                raise self._fail(f"{printable(name)} is listed twice, as image {names[name]} and {number}")
            names[name] = number
            image = images[number] = _Image(name, _size(entry))
            if name.startswith("/") or ".." in name.split("/"):
                image.fault = "does not lie below the dataset's folder"
        return images

    def _annotate(self, images: dict[int, _Image]) -> None:
        """Give each image its objects. An annotation that is wrong takes its image out."""
        seen: set[int] = set()
        lost = twice = 0
        for entry in self._content["annotations"]:
            if not isinstance(entry, dict) or not _whole(entry.get("image_id")):
                raise self._fail(f"an annotation has no whole number as `image_id`: {_short(entry)}")
            number = entry.get("id")
            if _whole(number):
                twice += number in seen
                seen.add(number)
            image = images.get(entry["image_id"])
            if image is None:
                lost += 1
                continue
            wrong = self._wrong(entry)
            if wrong:
                image.fault = image.fault or f"has a wrong annotation in {self._path}, id {_short(number)}: {wrong}"
                continue
            left, top, width, height = entry["bbox"]
            image.boxes.append((left, top, left + width, top + height))
            image.labels.append(self._labels[entry["category_id"]])
            image.crowd.append(bool(entry.get("iscrowd")))
        for count, what in (
            (lost, "are of images that are not listed, and ignored"),
            (twice, "have an id that is used before"),
        ):
            if count:
                self._walk.problem(self._source.path, f"{count:,} annotations {what}", fatal=False)

    def _wrong(self, entry: dict[str, Any]) -> str:
        box, category = entry.get("bbox"), entry.get("category_id")
        if not _whole(category) or category not in self._labels:
            return f"there is no category {_short(category)}"
        if not isinstance(box, list) or len(box) != 4 or not all(_number(value) for value in box):
            return f"bbox is {_short(box)}, not four numbers [left, top, width, height]"
        if box[2] < 0 or box[3] < 0:
            return f"bbox {_short(box)} has a negative width or height"
        return ""

    def _item(self, image: _Image) -> Item:
        objects = Objects(
            np.array(image.boxes, np.float64).reshape(-1, 4),
            np.array(image.labels, np.int64),
            np.array(image.crowd, bool),
            in_pixels=True,
        )
        group, size = self._source.group, image.size
        if image.fault:
            return Item(image.name, -1, MISSING, group, objects=objects, size=size, fault=image.fault)
        for base in (self._base, *self._source.folders):
            path = posixpath.join(base, image.name)
            size_bytes = self._walk.size_of(path)
            if size_bytes != MISSING:
                self._base = base
                return Item(path, -1, size_bytes, group, objects=objects, size=size)
        path = posixpath.join(self._source.folders[0], image.name)
        fault = f"is listed in {self._path} and is not there"
        return Item(path, -1, MISSING, group, objects=objects, size=size, fault=fault)


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_text(name: str) -> bool:
    """Whether it can be part of a path; JSON can also write halves of characters, as in "\\ud800"."""
    return bool(name) and "\0" not in name and name.encode("utf-8", "replace").decode() == name


def _number(value: object) -> bool:
    # NaN is not below anything.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _size(entry: dict[str, Any]) -> tuple[int, int]:
    """Width and height as they are written down; zeros where they are not."""
    width, height = entry.get("width"), entry.get("height")
    return (int(width), int(height)) if _whole(width) and _whole(height) and width and height else (0, 0)


def _short(value: object) -> str:
    text = printable(repr(value))
    return text if len(text) <= 100 else f"{text[:97]}..."
