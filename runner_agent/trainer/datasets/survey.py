"""Adds up what was found in a dataset's images, and says whether it can be trained on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from protos.training.v1 import training_pb2
from runner_agent.trainer.datasets.examples import Example, Placed
from runner_agent.trainer.datasets.images import UnreadableImageError
from runner_agent.trainer.datasets.listing import MAX_CLASSES, Group, Listing, Problem, printable

# Up to one broken image in this many is skipped; more refuse the dataset.
IMAGES_PER_BROKEN = 100
_UNITS = {training_pb2.TASK_DETECTION: "object", training_pb2.TASK_SEGMENTATION: "pixel"}


@dataclass(frozen=True, eq=False, slots=True)
class Finding:
    """What one image is: the classes in it with their number of images, objects or pixels, or why it cannot be used."""

    index: int
    reason: str = ""
    # The file and the line that the reason is about, where it is not the image.
    path: str = ""
    line: int = 0
    size: tuple[int, int] = (0, 0)
    # k each; an index of a class is in it at most once.
    labels: Sequence[int] = ()
    counts: Sequence[int] = ()
    clipped: int = 0
    dropped: int = 0


def broken(index: int, error: UnreadableImageError) -> Finding:
    return Finding(index, str(error), error.path, error.line)


def finding(index: int, example: Example) -> Finding:
    """What is in an image that was read."""
    target = example.target
    if isinstance(target, int):
        return Finding(index, "", "", 0, example.size, (target,), (1,))
    if isinstance(target, Placed):
        labels, counts = np.unique(target.labels, return_counts=True)
        found = (labels.tolist(), counts.tolist())
        return Finding(index, "", "", 0, example.size, *found, target.clipped, target.dropped)
    assert example.pixel_counts is not None, "a mask comes with its counts"
    labels = np.flatnonzero(example.pixel_counts)
    return Finding(index, "", "", 0, example.size, labels.tolist(), example.pixel_counts[labels].tolist())


class Survey:
    """The findings of all images of a listing; each is added once."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.seen = 0
        self.broken: list[Finding] = []
        # Width and height, smallest and largest, of the images that can be used.
        self.smallest = (0, 0)
        self.largest = (0, 0)
        # Of each class.
        self._images = [0] * len(listing.classes)
        self._units = [0] * len(listing.classes)
        # Image and number of its boxes.
        self._clipped: list[tuple[int, int]] = []
        self._dropped: list[tuple[int, int]] = []

    def add(self, findings: Iterable[Finding]) -> None:
        for one in findings:
            self.seen += 1
            if one.reason:
                self.broken.append(one)
                continue
            if one.clipped:
                self._clipped.append((one.index, one.clipped))
            if one.dropped:
                self._dropped.append((one.index, one.dropped))
            first = self.smallest == (0, 0)
            self.smallest = one.size if first else _each(min, self.smallest, one.size)
            self.largest = _each(max, self.largest, one.size)
            if one.labels:
                self._grow(max(one.labels) + 1)
            for label, count in zip(one.labels, one.counts, strict=True):
                self._images[label] += 1
                self._units[label] += count

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; where the dataset has none, the numbers that were found."""
        return self.listing.classes or tuple(str(number) for number in range(len(self._images)))

    @property
    def skipped(self) -> frozenset[int]:
        return frozenset(one.index for one in self.broken)

    def counts(self) -> list[tuple[int, int]]:
        """For each class its images, and its images, objects or pixels."""
        return list(zip(self._images, self._units, strict=True))

    def groups(self) -> tuple[int, int]:
        """How many images that can be used are in the dataset's own folders for training and for validation."""
        found = dict.fromkeys(Group, 0)
        skipped = self.skipped
        for index, item in enumerate(self.listing.items):
            found[item.group] += index not in skipped
        return found[Group.TRAIN], found[Group.VALIDATION]

    @property
    def too_many_broken(self) -> bool:
        """The rule for broken images: up to 1 % are skipped with a warning, more refuse the dataset."""
        return len(self.broken) * IMAGES_PER_BROKEN > len(self.listing.items)

    def refusal(self) -> Problem | None:
        """Why the dataset cannot be trained on without its broken images; None if it can."""
        if self.listing.fatal is not None:
            return self.listing.fatal
        total = len(self.listing.items)
        if self.too_many_broken:
            one = self.broken[0]
            count = f"{len(self.broken):,} of {total:,} images cannot be read, more than 1 %; repair or remove them"
            path = printable(self.listing.items[one.index].path)
            return Problem(printable(one.path) or path, f"{path} {one.reason}: {count}", fatal=True, line=one.line)
        return self._empty() or self._short()

    def _empty(self) -> Problem | None:
        """A part or a class of which nothing is left."""
        train, validation = self.groups()
        if self.listing.grouped:
            for name, count in (("train on", train), ("validate on", validation)):
                if count == 0:
                    message = f"there is no image to {name} in the dataset's own folder for it; add some, or remove it"
                    return Problem("", message, fatal=True)
        elif len(self.listing.items) - len(self.broken) < 2:
            message = "there is only one image; at least a second is needed to validate on"
            return Problem("", message, fatal=True)
        if self.listing.task == training_pb2.TASK_CLASSIFICATION:
            for name, (count, _) in zip(self.classes, self.counts(), strict=True):
                if count == 0:
                    message = f"no image of class {name} can be read; repair or remove the class folder"
                    return Problem(name, message, fatal=True)
        return None

    def _short(self) -> Problem | None:
        """Too little of everything."""
        task, counts = self.listing.task, self.counts()
        if task == training_pb2.TASK_CLASSIFICATION:
            if not self.listing.grouped and max(count for count, _ in counts) < 2:
                message = "every class has only one image; at least one class needs a second to validate on"
                return Problem("", message, fatal=True)
            return None
        if not any(units for _, units in counts):
            nothing = "object" if task == training_pb2.TASK_DETECTION else "labelled pixel"
            return Problem("", f"there is not one {nothing} in the whole dataset", fatal=True)
        if len(counts) > MAX_CLASSES:
            return Problem("", f"there are {len(counts):,} classes, above the limit of {MAX_CLASSES:,}", fatal=True)
        if task == training_pb2.TASK_SEGMENTATION and len(counts) == 1:
            message = (
                "the masks hold one class only (0; 255 is not labelled); write other classes as 1, 2 …, or give each "
                "class its colour in classes.txt, as in `cat 255 255 255`"
            )
            return Problem("", message, fatal=True)
        return None

    def warnings(self) -> list[Problem]:
        """What is worth a word and no hindrance."""
        found = [
            self._counted(self._clipped, "reach beyond their image and are clipped to it"),
            self._counted(self._dropped, "lie outside their image or have no area, and are left out"),
        ]
        empty = [name for name, (images, _) in zip(self.classes, self.counts(), strict=True) if not images]
        if empty and self.listing.task != training_pb2.TASK_CLASSIFICATION and self.seen == len(self.listing.items):
            unit = _UNITS[self.listing.task]
            names = ", ".join(empty[:5]) + (" …" if len(empty) > 5 else "")
            plural = "class has" if len(empty) == 1 else "classes have"
            found.append(Problem("", f"{len(empty):,} {plural} not one {unit}: {names}", fatal=False))
        return [problem for problem in found if problem is not None]

    def _counted(self, boxes: Sequence[tuple[int, int]], what: str) -> Problem | None:
        if not boxes:
            return None
        path = printable(self.listing.items[boxes[0][0]].path)
        count = sum(number for _, number in boxes)
        return Problem(path, f"{count:,} boxes {what}, for example in {path}", fatal=False)

    def _grow(self, classes: int) -> None:
        more = classes - len(self._images)
        if more > 0:
            assert not self.listing.classes, "a label above the named classes is refused where it is read"
            self._images += [0] * more
            self._units += [0] * more


def _each(choose: Callable[[int, int], int], one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return choose(one[0], other[0]), choose(one[1], other[1])
