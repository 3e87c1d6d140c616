"""Lists a segmentation: a folder of images and a folder of masks, which hold the class of every pixel.

A mask is of the upright image. Its values are class numbers (grey, or indices into a palette, whose colours do not
matter); 255 is not labelled. Where classes.txt gives each class a colour, masks hold these colours instead, and a
pixel of no such colour is not labelled.
"""

import numpy as np
from PIL import Image

from protos.training.v1 import training_pb2
from runner_agent.trainer.datasets import names, paired
from runner_agent.trainer.datasets.listing import Listing, ListingError, by_path, printable
from runner_agent.trainer.datasets.walk import Walk

MASKS = "masks"
NOT_LABELLED = 255
# Formats that lose nothing: a class number must come back as it was written.
_SUFFIXES = frozenset({".bmp", ".gif", ".png", ".tif", ".tiff"})


class MaskError(Exception):
    """A mask that cannot be used. The text continues a sentence that begins with the mask's name."""


def scan(walk: Walk) -> Listing:
    """List the images of a segmentation. Raises ListingError where there is nothing to list."""
    classes: list[str] = []
    colours: list[int] = []
    if walk.is_file(names.CLASSES):
        classes, colours = names.with_colours(walk, names.CLASSES)
        if len(classes) == 1:
            raise ListingError(f"{names.CLASSES} names one class; a segmentation needs two or more", names.CLASSES)
        if len(classes) > NOT_LABELLED:
            message = f"{names.CLASSES} names {len(classes)} classes; a segmentation takes at most {NOT_LABELLED}"
            raise ListingError(message, names.CLASSES)
    found = paired.find(walk, MASKS, _SUFFIXES, "mask folders")
    if found.unused:
        example = found.unused[0].path
        message = f"{len(found.unused):,} masks belong to no image and are ignored, for example {printable(example)}"
        walk.problem(example, message, fatal=False)
    walk.tell_ignored("neither images nor masks (a mask is a PNG), and ignored")
    return Listing(
        walk.root,
        training_pb2.DATASET_FORMAT_MASK_FOLDER,
        tuple(classes),
        by_path(found.items),
        tuple(walk.problems),
        tuple(colours),
    )


def classes_of(mask: Image.Image, classes: int, colours: tuple[int, ...]) -> np.ndarray:
    """The class of each pixel, uint8 (height, width), from a mask that is decoded. Raises MaskError.

    `classes` is the number of classes; 0 where nothing names them.
    """
    if colours:
        return _by_colour(mask, colours)
    if mask.mode in {"RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"}:
        red, green, blue = (np.asarray(band) for band in mask.convert("RGB").split())
        if (red != green).any() or (red != blue).any():
            raise MaskError(
                "is coloured; write class numbers, 0, 1, 2 …, or give each class its colour in classes.txt, "
                "as in `road 128 64 128`"
            )
        values = red
    elif mask.mode == "F":
        raise MaskError("holds fractions; write whole class numbers, 0, 1, 2 …")
    else:
        # Of a palette these are the indices; a second band is transparency.
        values = np.asarray(mask.getchannel(0) if mask.mode in {"LA", "La", "PA"} else mask)
        values = values.astype(np.uint8) if mask.mode == "1" else values
    highest = classes - 1 if classes else NOT_LABELLED - 1
    labelled = values[values != NOT_LABELLED]
    if labelled.size and not (labelled.min() >= 0 and labelled.max() <= highest):
        wrong = labelled[(labelled < 0) | (labelled > highest)][0]
        raise MaskError(f"has the value {wrong}; classes are 0 to {highest}, and 255 is not labelled")
    return values.astype(np.uint8)


def _by_colour(mask: Image.Image, colours: tuple[int, ...]) -> np.ndarray:
    pixels = np.asarray(mask.convert("RGB")).astype(np.uint32)
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    order = np.argsort(np.array(colours))
    known = np.array(colours, np.uint32)[order]
    place = np.minimum(np.searchsorted(known, packed), len(known) - 1)
    return np.where(known[place] == packed, order[place], NOT_LABELLED).astype(np.uint8)
