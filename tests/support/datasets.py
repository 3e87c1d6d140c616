"""Small datasets in each format, of images of 8 x 8 pixels, to be damaged by the test that asks for one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from protos.training.v1 import training_pb2
from runner_agent.trainer.check import check
from runner_agent.trainer.datasets import formats
from runner_agent.trainer.datasets.loading import Data, load

IMAGE_FOLDER, COCO, YOLO, MASKS = "image-folder", "coco", "yolo", "mask-folder"
SIZE = 8


def image_folder(root: Path, images: int = 100) -> Path:
    """Classes cat and dog, by turns."""
    for index in range(images):
        picture(root / ("cat", "dog")[index % 2] / f"{index:03d}.png", index)
    return root


def coco(root: Path, images: int = 100) -> Path:
    """One box in each image: pixels 2 to 6, of category 5 (cat) or 9 (dog) by turns."""
    for index in range(images):
        picture(root / f"{index:03d}.png", index)
    content = {
        "images": [
            {"id": index, "file_name": f"{index:03d}.png", "width": SIZE, "height": SIZE} for index in range(images)
        ],
        "annotations": [
            {"id": 1000 + index, "image_id": index, "category_id": (5, 9)[index % 2], "bbox": [2, 2, 4, 4]}
            for index in range(images)
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 5, "name": "cat"}],
    }
    (root / "annotations.json").write_text(json.dumps(content, indent=1))
    return root


def edit_coco(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def yolo(root: Path, images: int = 100) -> Path:
    """The same boxes."""
    (root / "labels").mkdir(parents=True)
    for index in range(images):
        picture(root / "images" / f"{index:03d}.png", index)
        (root / "labels" / f"{index:03d}.txt").write_text(f"{index % 2} 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    return root


def masks(root: Path, images: int = 100) -> Path:
    """The left half is class 0, the right half class 1, the last row is not labelled."""
    (root / "masks").mkdir(parents=True)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, SIZE // 2 :] = 1
    mask[-1] = 255
    for index in range(images):
        picture(root / "images" / f"{index:03d}.png", index)
        Image.fromarray(mask).save(root / "masks" / f"{index:03d}.png")
    (root / "classes.txt").write_text("background\ncat\n")
    return root


MAKERS = {IMAGE_FOLDER: image_folder, COCO: coco, YOLO: yolo, MASKS: masks}


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (SIZE, SIZE)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    Image.fromarray(generator.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path)


def look(root: Path | str, format_: str = IMAGE_FOLDER) -> training_pb2.DatasetReport:
    """The report of a check."""
    return check(str(root), lambda: False, formats.NAMES[format_])


def data(root: Path | str, format_: str = IMAGE_FOLDER, image_size: int = SIZE) -> Data:
    """The dataset as a training reads it."""
    return load(str(root), image_size, 0.2, 0, lambda: False, format_=formats.NAMES[format_])
