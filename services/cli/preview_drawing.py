"""Draws annotations over an image: boxes and masks in the colours of their classes."""

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from protos.metrics.v1.preview_pb2 import Annotation, PreviewImage

_LINE, _TEXT_HEIGHT, _MIN_SIDE = 2, 14, 160
_SURE = 0.25
_MASK_OPACITY = 0.5
_NOT_LABELLED = 255
_GOLDEN = 0.618034


def draw(image: PreviewImage, found: Annotation, classes: Sequence[str]) -> Image.Image:
    """Ground truth on the left, the prediction on the right. Raises OSError for what is no picture."""
    picture = Image.open(io.BytesIO(image.jpeg)).convert("RGB")
    # Words need room; small pictures are made larger in whole steps, so that pixels stay square.
    factor = max(1, -(-_MIN_SIDE // min(picture.size)))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    both = Image.new("RGB", (2 * picture.width + 4, picture.height + _TEXT_HEIGHT), "white")
    for side, (title, annotation) in enumerate((("truth", image.truth), ("prediction", found))):
        left = side * (picture.width + 4)
        both.paste(_annotated(picture, annotation, classes), (left, _TEXT_HEIGHT))
        ImageDraw.Draw(both).text((left + 2, 1), title, "black", font=ImageFont.load_default(11))
    return both


def _annotated(picture: Image.Image, annotation: Annotation, classes: Sequence[str]) -> Image.Image:
    picture = _masked(picture, annotation) if annotation.HasField("label_map") else picture.copy()
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(11)
    for box in annotation.boxes:
        if box.confidence < _SURE:
            continue
        sides = (
            box.left * picture.width,
            box.top * picture.height,
            box.right * picture.width,
            box.bottom * picture.height,
        )
        colour = colour_of(box.class_index)
        left, right = sorted((sides[0], sides[2]))
        top, bottom = sorted((sides[1], sides[3]))
        pen.rectangle((left, top, right, bottom), outline=colour, width=_LINE)
        _label(pen, (left, top), _words(classes, box.class_index, box.confidence), colour, font)
    for line, label in enumerate(annotation.labels[:3]):
        text = _words(classes, label.class_index, label.confidence)
        _label(pen, (2, 2 + line * _TEXT_HEIGHT), text, colour_of(label.class_index), font)
    return picture


def _masked(picture: Image.Image, annotation: Annotation) -> Image.Image:
    found = annotation.label_map
    classes = np.repeat(np.array(found.classes, np.uint8), found.lengths).reshape(found.height, found.width)
    palette = np.array([colour_of(index) for index in range(_NOT_LABELLED)] + [(0, 0, 0)], np.uint8)
    mask = Image.fromarray(palette[classes]).resize(picture.size, Image.Resampling.NEAREST)
    return Image.blend(picture, mask, _MASK_OPACITY)


def _label(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    pen.rectangle(pen.textbbox(at, text, font=font), fill=colour)
    pen.text(at, text, "black" if sum(colour) > 380 else "white", font=font)


def _words(classes: Sequence[str], index: int, confidence: float) -> str:
    name = classes[index] if index < len(classes) else f"class {index}"
    return name if confidence == 1 else f"{name} {confidence:.2f}"


def colour_of(index: int) -> tuple[int, int, int]:
    """Far from the colours of its neighbours: hues step by the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN % 1, 0.75, 1.0 - 0.35 * (index % 3) / 2)
    return round(red * 255), round(green * 255), round(blue * 255)
