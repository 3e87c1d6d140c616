"""Images as tensors: decoded once where they fit in memory, otherwise by worker processes as they are needed."""

import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from runner_agent.processes import die_with_parent
from runner_agent.trainer.batch import Batch
from runner_agent.trainer.datasets import images
from runner_agent.trainer.datasets.image_folder import ImageFolder, printable, scan
from runner_agent.trainer.failures import DatasetFailure

MAX_DECODED_BYTES = 512 * 1024 * 1024
MAX_WORKERS = 8


class Stopped(Exception):
    """Loading was asked to stop."""


class Images(Protocol):
    """Where batches come from."""

    def batches(self, indices: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """One batch for each list of indices, in order."""


@dataclass(frozen=True)
class Data:
    """A dataset that was read and split; indices point into `source`."""

    classes: tuple[str, ...]
    source: Images
    train: tuple[int, ...]
    validation: tuple[int, ...]
    # One line for each image that is skipped.
    warnings: tuple[str, ...]


def load(location: str, image_size: int, validation_share: float, seed: int, stopped: Callable[[], bool]) -> Data:
    """Read every image once. Raises DatasetFailure if the dataset cannot be trained on, and Stopped."""
    folder = scan(location, stopped)
    count = len(folder.files)
    fits = count * 3 * image_size * image_size <= MAX_DECODED_BYTES
    pixels = np.empty((count, image_size, image_size, 3), np.uint8) if fits else None
    broken: list[tuple[int, str]] = []
    read = 0
    if folder.fatal is None:
        for part in images.in_chunks(folder, lambda part: _decode(folder, part, image_size, pixels), stopped):
            read += len(part)
            broken += [(index, reason) for index, reason in part if reason]
    if stopped():
        raise Stopped
    refusal = images.refusal(folder, broken)
    if refusal is not None:
        raise DatasetFailure(f"dataset {location}: {refusal.message}")
    assert read == count
    labels = [file.label for file in folder.files]
    skipped = {index for index, _ in broken}
    train, validation = split(labels, skipped, validation_share, seed)
    source: Images
    if pixels is not None:
        source = _InMemory(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor(labels))
    else:
        source = _OnDisk(folder, image_size)
    warnings = tuple(f"{printable(folder.files[index].path)} {reason}; it is skipped" for index, reason in broken)
    return Data(folder.classes, source, train, validation, warnings)


def _decode(folder: ImageFolder, part: range, size: int, pixels: np.ndarray | None) -> list[tuple[int, str]]:
    """For each image (index, what is wrong with it or ""); decoded pixels go where they belong."""
    found = []
    for index in part:
        reason = ""
        try:
            image = images.decode(folder.root, folder.files[index], size)
            if pixels is not None:
                pixels[index] = np.asarray(image)
        except images.UnreadableImageError as error:
            reason = str(error)
        found.append((index, reason))
    return found


def split(
    labels: Sequence[int], skipped: set[int], validation_share: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices to train and to validate on: each class by the share, the same for the same seed.

    A class keeps at least one image to train on, and gives one to validation if it has two or more.
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


class _InMemory:
    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self._pixels = pixels
        self._labels = labels

    def batches(self, indices: Sequence[Sequence[int]]) -> Iterator[Batch]:
        for chosen in indices:
            index = torch.tensor(chosen)
            yield _batch(chosen, self._pixels[index], self._labels[index])


def _batch(indices: Sequence[int], pixels: Tensor, labels: Tensor) -> Batch:
    size = pixels.shape[-1]
    return Batch(tuple(indices), pixels, labels, torch.full((len(indices), 2), size))


def _begin_worker(trainer_pid: int) -> None:
    # A stop is the trainer's to carry out; workers end when it is done with them, or with its death.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent(trainer_pid)


class _OnDisk(Dataset[Batch]):
    def __init__(self, folder: ImageFolder, image_size: int) -> None:
        self._folder = folder
        self._image_size = image_size

    def __getitems__(self, indices: Sequence[int]) -> Batch | str:
        """A batch, or what is wrong with one of its images: an exception would lose its type between processes."""
        pixels = np.empty((len(indices), self._image_size, self._image_size, 3), np.uint8)
        for row, index in enumerate(indices):
            file = self._folder.files[index]
            try:
                pixels[row] = np.asarray(images.decode(self._folder.root, file, self._image_size))
            except images.UnreadableImageError as error:
                return f"{printable(file.path)} {error}; it was whole when the training began"
        labels = torch.tensor([self._folder.files[index].label for index in indices])
        return _batch(indices, torch.from_numpy(pixels).permute(0, 3, 1, 2), labels)

    def batches(self, indices: Sequence[Sequence[int]]) -> Iterator[Batch]:
        trainer = os.getpid()
        loader: DataLoader[Batch | str] = DataLoader(
            self,
            batch_sampler=[list(chosen) for chosen in indices],
            collate_fn=lambda batch: batch,
            num_workers=min(len(os.sched_getaffinity(0)), MAX_WORKERS, len(indices)),
            worker_init_fn=lambda _: _begin_worker(trainer),
            multiprocessing_context="fork",
        )
        for batch in loader:
            if isinstance(batch, str):
                raise DatasetFailure(batch)
            yield batch
