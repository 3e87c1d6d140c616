"""Images as tensors: decoded once where they fit in memory, otherwise by worker processes as they are needed."""

import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from protos.training.v1 import training_pb2
from runner_agent.processes import die_with_parent
from runner_agent.trainer.batch import Batch, Boxes, Targets
from runner_agent.trainer.datasets import examples, formats, images, remote
from runner_agent.trainer.datasets.examples import Placed, Target
from runner_agent.trainer.datasets.listing import Group, Item, Listing, printable
from runner_agent.trainer.datasets.places import Places
from runner_agent.trainer.datasets.survey import Finding, Survey, broken, finding
from runner_agent.trainer.failures import DatasetFailure

MAX_DECODED_BYTES = 512 * 1024 * 1024
MAX_WORKERS = 8


class Stopped(Exception):
    """Loading was asked to stop."""


class Images(Protocol):
    """Where batches come from."""

    def batches(self, indices: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """One batch for each list of indices, in order."""

    def picture(self, index: int) -> tuple[str, Image.Image]:
        """An image as it is in the dataset, RGB and upright, with its path relative to the dataset's location.

        Raises DatasetFailure where it cannot be read any more.
        """


@dataclass(frozen=True)
class Data:
    """A dataset that was read and split; indices point into `source`."""

    classes: tuple[str, ...]
    source: Images
    train: tuple[int, ...]
    validation: tuple[int, ...]
    # One line for each image that is skipped, and each kind of thing that was put right.
    warnings: tuple[str, ...]
    # Images, objects or pixels of each class among the images to train on.
    train_support: tuple[int, ...]


def load(
    location: str,
    image_size: int,
    validation_share: float,
    seed: int,
    stopped: Callable[[], bool],
    *,
    format_: int = training_pb2.DATASET_FORMAT_IMAGE_FOLDER,
    places: Places | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Data:
    """Read every image once. Raises DatasetFailure if the dataset cannot be trained on, and Stopped.

    `places` are the settings of the box; `say` takes lines about the fetching of a URL.
    """
    places = places or Places(Path(os.devnull))
    try:
        root = remote.locate(location, places, stopped, say)
    except remote.Interrupted:
        raise Stopped from None
    except remote.LocationError as error:
        raise DatasetFailure(f"dataset {location}: {error}") from None
    listing = formats.scan(root, format_, stopped, places.allowed(root))
    survey = Survey(listing)
    store = _Store(listing, image_size)
    if listing.fatal is None:
        for part in images.in_chunks(listing.items, store.read, stopped):
            survey.add(part)
    if stopped():
        raise Stopped
    refusal = survey.refusal()
    if refusal is not None:
        raise DatasetFailure(f"dataset {location}: {refusal.message}")
    assert survey.seen == len(listing.items)
    train, validation = _groups(listing, survey.skipped, validation_share, seed)
    source: Images = store.in_memory() if store.keeps else _OnDisk(listing, image_size)
    warnings = [f"{printable(listing.items[one.index].path)} {one.reason}; it is skipped" for one in survey.broken]
    warnings += [problem.message for problem in survey.warnings()]
    support = [0] * len(survey.classes)
    for index in train:
        for label, number in zip(*store.found[index], strict=True):
            support[label] += number
    return Data(survey.classes, source, train, validation, tuple(warnings), tuple(support))


def _groups(
    listing: Listing, skipped: frozenset[int], validation_share: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices to train and to validate on: the dataset's own parts, or a split by the share."""
    if not listing.grouped:
        return split([item.label for item in listing.items], skipped, validation_share, seed)
    members = [(index, item.group) for index, item in enumerate(listing.items) if index not in skipped]
    train, validation = (
        tuple(index for index, group in members if group is wanted) for wanted in (Group.TRAIN, Group.VALIDATION)
    )
    return train, validation


def split(
    labels: Sequence[int], skipped: set[int] | frozenset[int], validation_share: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices to train and to validate on: each class by the share, the same for the same seed.

    A class keeps at least one image to train on, and gives one to validation if it has two or more. Images without a
    class of their own (detection, segmentation) all have the same label.
    """
    of_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        if index not in skipped:
            of_class.setdefault(label, []).append(index)
    generator = random.Random(seed)
    train: list[int] = []
    validation: list[int] = []
    for label in sorted(of_class):
        members = of_class[label]
        generator.shuffle(members)
        held_out = min(max(round(validation_share * len(members)), 1), len(members) - 1)
        validation += members[:held_out]
        train += members[held_out:]
    return tuple(sorted(train)), tuple(sorted(validation))


def epoch_batches(train: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of an epoch's batches in its own order. An incomplete last batch is left out; each epoch leaves out
    other images."""
    order = list(train)
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return [order[start : start + batch_size] for start in range(0, len(order) - batch_size + 1, batch_size)]


class _Store:
    """Reads all images of a listing once, and keeps them decoded where they fit in memory."""

    def __init__(self, listing: Listing, image_size: int) -> None:
        self._listing, self._image_size = listing, image_size
        count = len(listing.items)
        segmentation = listing.task == training_pb2.TASK_SEGMENTATION
        bytes_each = (4 if segmentation else 3) * image_size * image_size
        self.keeps = count * bytes_each <= MAX_DECODED_BYTES
        kept = count if self.keeps else 0
        self._pixels = np.empty((kept, image_size, image_size, 3), np.uint8)
        self._masks = np.empty((kept if segmentation else 0, image_size, image_size), np.uint8)
        self._targets: list[Target] = [0] * kept
        self._sizes = np.zeros((kept, 2), np.int64)
        # What is in each image: class numbers, and how many images, objects or pixels of each.
        self.found: list[tuple[Sequence[int], Sequence[int]]] = [((), ())] * count

    def read(self, part: range) -> list[Finding]:
        """Called by several threads, each with a part of its own."""
        findings = []
        for index in part:
            try:
                example = examples.read(self._listing, self._listing.items[index], self._image_size)
            except images.UnreadableImageError as error:
                findings.append(broken(index, error))
                continue
            one = finding(index, example)
            findings.append(one)
            self.found[index] = (one.labels, one.counts)
            if self.keeps:
                self._pixels[index] = np.asarray(example.pixels)
                self._sizes[index] = example.size
                if isinstance(example.target, np.ndarray):
                    self._masks[index] = example.target
                else:
                    self._targets[index] = example.target
        return findings

    def in_memory(self) -> "_InMemory":
        pixels = torch.from_numpy(self._pixels).permute(0, 3, 1, 2)
        sizes = torch.from_numpy(self._sizes)
        targets: Targets
        if self._listing.task == training_pb2.TASK_DETECTION:
            targets = tuple(_boxes(target) for target in self._targets)
        elif self._listing.task == training_pb2.TASK_SEGMENTATION:
            targets = torch.from_numpy(self._masks)
        else:
            targets = torch.tensor(self._targets)
        return _InMemory(self._listing, pixels, sizes, targets)


_NONE = np.zeros(0, np.int64)
_NO_OBJECT = Placed(np.zeros((0, 4), np.float32), _NONE, np.zeros(0, bool))


def _boxes(target: Target) -> Boxes:
    # The place of an image that is skipped holds no objects.
    placed = target if isinstance(target, Placed) else _NO_OBJECT
    return Boxes(torch.from_numpy(placed.boxes), torch.from_numpy(placed.labels), torch.from_numpy(placed.crowd))


class _Pictures:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def picture(self, index: int) -> tuple[str, Image.Image]:
        item = self._listing.items[index]
        try:
            return printable(item.path), images.decode(self._listing.root, item)
        except images.UnreadableImageError as error:
            raise DatasetFailure(_broken_since(item, error)) from None


def _broken_since(item: Item, error: images.UnreadableImageError) -> str:
    return f"{printable(item.path)} {error}; it was whole when the training began"


class _InMemory(_Pictures):
    def __init__(self, listing: Listing, pixels: Tensor, sizes: Tensor, targets: Targets) -> None:
        super().__init__(listing)
        self._pixels, self._sizes, self._targets = pixels, sizes, targets

    def batches(self, indices: Sequence[Sequence[int]]) -> Iterator[Batch]:
        for chosen in indices:
            index = torch.tensor(chosen)
            targets: Targets
            if isinstance(self._targets, Tensor):
                targets = self._targets[index]
            else:
                targets = tuple(self._targets[one] for one in chosen)
            yield Batch(tuple(chosen), self._pixels[index], targets, self._sizes[index])


def _begin_worker(trainer_pid: int) -> None:
    # A stop is the trainer's to carry out; workers end when it is done with them, or with its death.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent(trainer_pid)


@dataclass(frozen=True, eq=False)
class _Decoded:
    """A batch on its way from a worker: each tensor takes a descriptor while it travels, so there is only one."""

    pixels: Tensor
    targets: list[Target]
    sizes: list[tuple[int, int]]

    def batch(self, indices: Sequence[int]) -> Batch:
        targets: Targets
        first = self.targets[0]
        if isinstance(first, Placed):
            targets = tuple(_boxes(target) for target in self.targets)
        elif isinstance(first, np.ndarray):
            targets = torch.from_numpy(np.stack([np.asarray(target) for target in self.targets]))
        else:
            targets = torch.tensor(self.targets)
        return Batch(tuple(indices), self.pixels, targets, torch.tensor(self.sizes))


class _OnDisk(_Pictures, Dataset[_Decoded]):
    def __init__(self, listing: Listing, image_size: int) -> None:
        super().__init__(listing)
        self._image_size = image_size

    def __getitems__(self, indices: Sequence[int]) -> _Decoded | str:
        """A batch, or what is wrong with one of its images: an exception would lose its type between processes."""
        pixels = np.empty((len(indices), self._image_size, self._image_size, 3), np.uint8)
        targets, sizes = [], []
        for row, index in enumerate(indices):
            item = self._listing.items[index]
            try:
                example = examples.read(self._listing, item, self._image_size)
            except images.UnreadableImageError as error:
                return _broken_since(item, error)
            pixels[row] = np.asarray(example.pixels)
            targets.append(example.target)
            sizes.append(example.size)
        return _Decoded(torch.from_numpy(pixels).permute(0, 3, 1, 2), targets, sizes)

    def batches(self, indices: Sequence[Sequence[int]]) -> Iterator[Batch]:
        if not indices:
            return
        trainer = os.getpid()
        loader: DataLoader[_Decoded | str] = DataLoader(
            self,
            batch_sampler=[list(chosen) for chosen in indices],
            collate_fn=lambda batch: batch,
            num_workers=min(len(os.sched_getaffinity(0)), MAX_WORKERS, len(indices)),
            worker_init_fn=lambda _: _begin_worker(trainer),
            multiprocessing_context="fork",
        )
        for chosen, decoded in zip(indices, loader, strict=True):
            if isinstance(decoded, str):
                raise DatasetFailure(decoded)
            yield decoded.batch(chosen)
