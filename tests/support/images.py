"""Small image folders that a model can learn."""

from pathlib import Path

import numpy as np
from PIL import Image


def brightness_classes(folder: Path, images: int = 40) -> Path:
    """Three classes that differ in brightness."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("black", "grey", "white")):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            pixels = generator.integers(label * 80, label * 80 + 90, (12, 12), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:02d}.png")
    return folder
