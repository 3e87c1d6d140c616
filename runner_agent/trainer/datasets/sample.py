"""Real data without a download: scikit-learn's 1,797 handwritten digits as an image folder."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_digits(directory: Path) -> int:
    """Write the digits as 8 x 8 grey PNG files, `<digit>/<index>.png`; returns how many.

    Deterministic; files that exist are written again. Raises OSError if the folder cannot be written.
    """
    from sklearn.datasets import load_digits  # takes a second to import, and only this function needs it

    digits = load_digits()
    for label in range(10):
        (directory / str(label)).mkdir(parents=True, exist_ok=True)
    # Grey values of the scans are 0 to 16.
    scans = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for index, (scan, label) in enumerate(zip(scans, digits.target, strict=True)):
        Image.fromarray(scan).save(directory / str(label) / f"{index:04d}.png")
    return len(scans)
