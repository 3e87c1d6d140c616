"""Real data without a download: scikit-learn's 1,797 handwritten digits, as a dataset for each task.

All of it is deterministic, and no scan is in two images of a dataset, so that a validation image shows nothing that
was trained on.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# Five of the ten: fewer are learned within a minute on a CPU.
SCENE_DIGITS = 5
SCENE_SIZE = 64
# Sides of a pasted digit, whose scan has 8 pixels; multiples of it, so that its box is exact.
_SIDES = (16, 24, 32)
_MOST_DIGITS = 3
# Of 255: from the upper one a pixel is the digit's, below the lower one it is the background's.
_INK, _FAINT = 110, 50
_NOT_LABELLED = 255


@dataclass(frozen=True)
class Pasted:
    """A digit on a canvas: its left and top, its side, all in pixels, and which pixels of the square it darkens."""

    digit: int
    left: int
    top: int
    side: int
    # uint8 (side, side).
    ink: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Some digits on a grey canvas, uint8 (SCENE_SIZE, SCENE_SIZE); no two overlap."""

    pixels: np.ndarray
    digits: tuple[Pasted, ...]


def write_digits(directory: Path) -> int:
    """Write the digits as 8 x 8 grey PNG files, `<digit>/<index>.png`; returns how many.

    Deterministic; files that exist are written again. Raises OSError if the folder cannot be written.
    """
    scans, labels = _scans()
    for label in range(10):
        (directory / str(label)).mkdir(parents=True, exist_ok=True)
    for index, (scan, label) in enumerate(zip(scans, labels, strict=True)):
        Image.fromarray(scan).save(directory / str(label) / f"{index:04d}.png")
    return len(scans)


def write_detection(directory: Path, *, yolo: bool = False) -> int:
    """Write scenes with the boxes of their digits, as COCO or as YOLO text labels; returns how many.

    Raises OSError if the folder cannot be written.
    """
    names = [str(digit) for digit in range(SCENE_DIGITS)]
    annotations: list[dict[str, object]] = []
    files: list[dict[str, object]] = []
    (directory / "images").mkdir(parents=True, exist_ok=True)
    if yolo:
        (directory / "labels").mkdir(exist_ok=True)
        listed = "".join(f"  {number}: '{name}'\n" for number, name in enumerate(names))
        (directory / "data.yaml").write_text(f"names:\n{listed}")
    for index, scene in enumerate(_scenes()):
        name = f"{index:04d}"
        Image.fromarray(scene.pixels).save(directory / "images" / f"{name}.png")
        files.append({"id": index + 1, "file_name": f"{name}.png", "width": SCENE_SIZE, "height": SCENE_SIZE})
        lines = []
        for one in scene.digits:
            centre = [(place + one.side / 2) / SCENE_SIZE for place in (one.left, one.top)]
            lines.append(f"{one.digit} {centre[0]} {centre[1]} {one.side / SCENE_SIZE} {one.side / SCENE_SIZE}\n")
            box = [one.left, one.top, one.side, one.side]
            about = {"image_id": index + 1, "category_id": one.digit + 1, "bbox": box, "area": one.side**2}
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, **about})
        if yolo:
            (directory / "labels" / f"{name}.txt").write_text("".join(lines))
    if not yolo:
        categories = [{"id": digit + 1, "name": name} for digit, name in enumerate(names)]
        content = {"images": files, "annotations": annotations, "categories": categories}
        (directory / "annotations.json").write_text(json.dumps(content, indent=0))
    return len(files)


def write_segmentation(directory: Path) -> int:
    """Write scenes with a mask each: 0 is the background, digit n is n + 1, and the faint rim of a digit is 255, not
    labelled; returns how many.

    Raises OSError if the folder cannot be written.
    """
    for name in ("images", "masks"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    names = ["background", *(str(digit) for digit in range(SCENE_DIGITS))]
    (directory / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    count = 0
    for scene in _scenes():
        mask = np.zeros((SCENE_SIZE, SCENE_SIZE), np.uint8)
        for one in scene.digits:
            square = mask[one.top : one.top + one.side, one.left : one.left + one.side]
            square[one.ink >= _FAINT] = _NOT_LABELLED
            square[one.ink >= _INK] = one.digit + 1
        Image.fromarray(scene.pixels).save(directory / "images" / f"{count:04d}.png")
        Image.fromarray(mask).save(directory / "masks" / f"{count:04d}.png")
        count += 1
    return count


def _scans() -> tuple[np.ndarray, np.ndarray]:
    """Grey scans, uint8 (1797, 8, 8), and their digits."""
    from sklearn.datasets import load_digits  # takes a second to import, and only a sample needs it

    digits = load_digits()
    # Grey values of the scans are 0 to 16.
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target


def _scenes() -> Iterator[Scene]:
    """Canvases with one to three digits each, until the scans are used up."""
    scans, labels = _scans()
    order = [index for index in range(len(scans)) if labels[index] < SCENE_DIGITS]
    generator = random.Random(0)
    generator.shuffle(order)
    while order:
        chosen = [order.pop() for _ in range(min(generator.randint(1, _MOST_DIGITS), len(order)))]
        yield _scene(generator, [(scans[index], int(labels[index])) for index in chosen])


def _scene(generator: random.Random, chosen: list[tuple[np.ndarray, int]]) -> Scene:
    canvas = np.full((SCENE_SIZE, SCENE_SIZE), 40, np.uint8)
    pasted: list[Pasted] = []
    # The canvas is cut into quarters, so that digits never overlap and always find room.
    quarters = generator.sample([(0, 0), (1, 0), (0, 1), (1, 1)], len(chosen))
    half = SCENE_SIZE // 2
    for (scan, digit), (column, row) in zip(chosen, quarters, strict=True):
        side = generator.choice(_SIDES)
        left, top = (place * half + generator.randint(0, half - side) for place in (column, row))
        ink = np.asarray(Image.fromarray(scan).resize((side, side), Image.Resampling.BILINEAR))
        square = canvas[top : top + side, left : left + side]
        np.maximum(square, ink, out=square)
        pasted.append(Pasted(digit, left, top, side, ink))
    return Scene(canvas, tuple(pasted))
