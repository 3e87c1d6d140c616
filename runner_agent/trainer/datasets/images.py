"""Decodes images. Pillow and numpy only, so that a check starts fast."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from runner_agent.trainer.datasets.listing import MISSING, Item

# A decoded image of this many pixels takes 240 MB; larger ones are refused before they are decoded.
MAX_PIXELS = 80_000_000
_CHUNK = 64
_ABOVE_LIMIT = f"above the limit of {MAX_PIXELS // 1_000_000} megapixels"
# Below this mean file size decoding spends its time in Python, and threads only fight for the interpreter.
_WORTH_THREADS_BYTES = 16 * 1024
# Formats in which cameras say how they were held, and the values for which width and height change places.
_TURNED_FORMATS = frozenset({"JPEG", "MPO", "WEBP"})
_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})

Result = TypeVar("Result")


class UnreadableImageError(Exception):
    """An image that cannot be used. The text continues a sentence that begins with the image's name.

    `path` is the file to look at where that is another one, `line` a line of it, from 1.
    """

    def __init__(self, message: str, path: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


def decode(root: Path, item: Item, image_size: int | None = None) -> Image.Image:
    """The whole image in RGB, upright, resized to a square of `image_size` pixels if that is given.

    Raises UnreadableImageError, whatever the file holds.
    """
    return decode_measured(root, item, image_size)[0]


def decode_measured(root: Path, item: Item, image_size: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """The same, with width and height of the upright image before it was resized."""
    if item.size_bytes <= 0:
        raise UnreadableImageError(_NO_FILE.get(item.size_bytes, "is not a regular file"))

    def work(image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
        size = image.size
        if image_size is not None:
            image.draft("RGB", (image_size, image_size))
        image.load()
        upright = image
        if image.format in _TURNED_FORMATS:
            size = size[::-1] if image.getexif().get(_ORIENTATION) in _SIDEWAYS else size
            upright = ImageOps.exif_transpose(image)
        decoded = _eight_bits(upright)
        if image_size is not None and decoded.mode == "L":
            # Three equal channels need resizing only once.
            decoded = decoded.resize((image_size, image_size), Image.Resampling.BILINEAR)
        return decoded.convert("RGB"), size

    rgb, size = opened(f"{root}/{item.path}", work)
    if image_size is None or rgb.size == (image_size, image_size):
        return rgb, size
    return rgb.resize((image_size, image_size), Image.Resampling.BILINEAR), size


_NO_FILE = {0: "is empty", MISSING: "is not there"}


def opened(path: str, work: Callable[[Image.Image], Result]) -> Result:
    """Apply `work` to an image that is opened and not yet decoded. Raises UnreadableImageError, whatever happens."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(f"is {image.width} x {image.height} pixels, {_ABOVE_LIMIT}")
            return work(image)
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


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow clips 16-bit grey values to white; scale them instead."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8))
    return image


def in_chunks(items: Sequence[Item], work: Callable[[range], Result], stopped: Callable[[], bool]) -> Iterator[Result]:
    """Apply `work` to consecutive ranges of the items, on all cores where that pays.

    Results come in order. Ends early, a chunk later at most, once `stopped`.
    """
    count = len(items)
    waiting = (range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
    if sum(item.size_bytes for item in items) < count * _WORTH_THREADS_BYTES:
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
