"""Decodes images, and the rule for those that are broken. Pillow and numpy only, so that a check starts fast."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from runner_agent.trainer.datasets.image_folder import ImageFile, ImageFolder, Problem, printable

# A decoded image of this many pixels takes 240 MB; larger ones are refused before they are decoded.
MAX_PIXELS = 80_000_000
# Up to one broken image in this many is skipped; more refuse the dataset.
IMAGES_PER_BROKEN = 100
_CHUNK = 64
_ABOVE_LIMIT = f"above the limit of {MAX_PIXELS // 1_000_000} megapixels"
# Below this mean file size decoding spends its time in Python, and threads only fight for the interpreter.
_WORTH_THREADS_BYTES = 16 * 1024

Result = TypeVar("Result")


class UnreadableImageError(Exception):
    """An image that cannot be decoded whole. The text continues a sentence that begins with the file's name."""


def decode(root: Path, file: ImageFile, image_size: int | None = None) -> Image.Image:
    """The whole image in RGB, upright, resized to a square of `image_size` pixels if that is given.

    Raises UnreadableImageError, whatever the file holds.
    """
    if file.size_bytes <= 0:
        raise UnreadableImageError("is empty" if file.size_bytes == 0 else "is not a regular file")
    try:
        with Image.open(f"{root}/{file.path}") as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(f"is {image.width} x {image.height} pixels, {_ABOVE_LIMIT}")
            if image_size is not None:
                image.draft("RGB", (image_size, image_size))
            image.load()
            upright = ImageOps.exif_transpose(image) if image.format in {"JPEG", "MPO", "WEBP"} else image
            decoded = _eight_bits(upright)
            if image_size is not None and decoded.mode == "L":
                # Three equal channels need resizing only once.
                decoded = decoded.resize((image_size, image_size), Image.Resampling.BILINEAR)
            rgb = decoded.convert("RGB")
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError("is not an image that can be decoded") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImageError(f"is {_ABOVE_LIMIT}") from None
    except OSError as error:
        detail = f"cannot be read: {error.strerror}" if error.strerror else f"is damaged: {error}"
        raise UnreadableImageError(detail) from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
        raise UnreadableImageError(f"is damaged: {error}") from None
    if image_size is None or rgb.size == (image_size, image_size):
        return rgb
    return rgb.resize((image_size, image_size), Image.Resampling.BILINEAR)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow clips 16-bit grey values to white; scale them instead."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8))
    return image


def too_many_broken(broken: int, images: int) -> bool:
    """The rule for broken images: up to 1 % are skipped with a warning, more refuse the dataset."""
    return broken * IMAGES_PER_BROKEN > images


def refusal(folder: ImageFolder, broken: Sequence[tuple[int, str]]) -> Problem | None:
    """Why a dataset cannot be trained on without its broken images (index, reason); None if it can."""
    if folder.fatal is not None:
        return folder.fatal
    total = len(folder.files)
    if too_many_broken(len(broken), total):
        index, reason = broken[0]
        path = printable(folder.files[index].path)
        count = f"{len(broken):,} of {total:,} images cannot be read, more than 1 %; repair or remove them"
        return Problem(path, f"{path} {reason}: {count}", fatal=True)
    counts = class_counts(folder, {index for index, _ in broken})
    for name, count_of_class in zip(folder.classes, counts, strict=True):
        if count_of_class == 0:
            return Problem(name, f"no image of class {name} can be read; repair or remove the class folder", fatal=True)
    if max(counts) < 2:
        return Problem(
            "", "every class has only one image; at least one class needs a second to validate on", fatal=True
        )
    return None


def class_counts(folder: ImageFolder, broken: set[int]) -> list[int]:
    """Readable images per class, in the order of the classes."""
    counts = [0] * len(folder.classes)
    for index, file in enumerate(folder.files):
        counts[file.label] += index not in broken
    return counts


def in_chunks(folder: ImageFolder, work: Callable[[range], Result], stopped: Callable[[], bool]) -> Iterator[Result]:
    """Apply `work` to consecutive ranges of the folder's images, on all cores where that pays.

    Results come in order. Ends early, a chunk later at most, once `stopped`.
    """
    count = len(folder.files)
    waiting = (range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
    if sum(file.size_bytes for file in folder.files) < count * _WORTH_THREADS_BYTES:
        for part in waiting:
            if stopped():
                return
            yield work(part)
        return
    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as pool:
        # Two chunks per thread keep all busy and memory flat.
        running: list[Future[Result]] = [pool.submit(work, part) for part in islice(waiting, 2 * threads)]
        while running:
            if stopped():
                for future in running:
                    future.cancel()
                return
            yield running.pop(0).result()
            running.extend(pool.submit(work, part) for part in islice(waiting, 1))
