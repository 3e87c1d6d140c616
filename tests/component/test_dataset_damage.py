"""Damaged datasets: each is a clear refusal or a counted warning, and the check and the training agree on it."""

import os
import random
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runner_agent.trainer.failures import DatasetFailure
from tests.support import datasets
from tests.support.datasets import COCO, IMAGE_FOLDER, MASKS, YOLO, data, edit_coco, look

Damage = Callable[[Path], object]
# Refuses the dataset; a warning; nothing to be said of.
FATAL, WARNING, FINE = "fatal", "warning", "fine"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A hundred images in each format: one broken image is 1 %, which is skipped; two are too many."""
    root = tmp_path_factory.mktemp("whole")
    return {name: make(root / name) for name, make in datasets.MAKERS.items()}


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def png(width: int, height: int) -> bytes:
    """A whole black image of one bit a pixel."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 1)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def colourful(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)).save(path)


def mask_of(path: Path, value: int, kind: Any = np.uint8) -> None:
    Image.fromarray(np.full((8, 8), value, kind)).save(path)


def annotation(**changed: Any) -> Damage:
    return lambda root: edit_coco(root, lambda content: content["annotations"][7].update(changed))


def entry(key: str, number: int, **changed: Any) -> Damage:
    return lambda root: edit_coco(root, lambda content: content[key][number].update(changed))


def text(name: str, content: str | bytes) -> Damage:
    raw = content.encode() if isinstance(content, str) else content
    return lambda root: (root / name).write_bytes(raw)


def sparse(name: str, size_bytes: int) -> Damage:
    def damage(root: Path) -> None:
        with (root / name).open("r+b") as file:
            file.truncate(size_bytes)

    return damage


IMAGES: dict[str, tuple[Damage, str, str]] = {
    "truncated": (lambda root: truncate(root / "cat/002.png"), WARNING, "cat/002.png is damaged"),
    "zero bytes": (text("cat/002.png", ""), WARNING, "cat/002.png is empty"),
    "a text with the name of an image": (text("cat/002.png", "meow"), WARNING, "is not an image that can be decoded"),
    "another kind of image than its name says": (
        lambda root: Image.new("RGB", (8, 8)).save(root / "cat/002.png", "JPEG"), FINE, "",
    ),
    "one pixel": (lambda root: Image.new("RGB", (1, 1)).save(root / "cat/002.png"), FINE, ""),
    "400 megapixels": (
        text("cat/002.png", png(20_000, 20_000)), WARNING,
        "cat/002.png is above the limit of 80 megapixels",
    ),
    "81 megapixels": (
        text("cat/002.png", png(9_000, 9_000)), WARNING,
        "cat/002.png is 9000 x 9000 pixels, above the limit of 80 megapixels",
    ),
    "CMYK": (lambda root: Image.new("CMYK", (8, 8)).save(root / "cat/002.jpg"), FINE, ""),
    "16 bits": (lambda root: mask_of(root / "cat/002.png", 40_000, np.uint16), FINE, ""),
    "a pipe": (lambda root: pipe(root / "cat/002.png"), WARNING, "cat/002.png is not a regular file"),
    "unicode and a line end in a name": (
        lambda root: (root / "cat/002.png").rename(root / "cat/kätz\nchen 🐱.png"), FINE, "",
    ),
    "a broken image with a line end in its name": (
        text("cat/a\nb.png", ""), WARNING, r"cat/a\nb.png is empty",
    ),
    "a cyclic link": (lambda root: (root / "cat/loop").symlink_to(root / "cat"), FINE, ""),
    "two broken images": (
        lambda root: [text(f"cat/00{n}.png", "")(root) for n in (2, 4)], FATAL,
        "cat/002.png is empty: 2 of 100 images cannot be read, more than 1 %; repair or remove them",
    ),
    "one class": (lambda root: shutil.rmtree(root / "cat"), FATAL, "there is only one class, dog"),
    "an empty folder to validate on": (
        lambda root: [
            (root / "train").mkdir(), (root / "val/cat").mkdir(parents=True),
            (root / "cat").rename(root / "train/cat"), (root / "dog").rename(root / "train/dog"),
        ],
        FATAL, "there is no image to validate on in the dataset's own folder for it",
    ),
}  # fmt: skip

BOXES: dict[str, tuple[Damage, str, str]] = {
    "no JSON": (
        text("annotations.json", '{"images": [],\n "annotations": [}'), FATAL,
        "annotations.json is not JSON: Expecting value in line 2, column 18",
    ),
    "no text": (text("annotations.json", b'{"images": "\xff\xfe'), FATAL, "annotations.json is not JSON in UTF-8"),
    "nested beyond measure": (text("annotations.json", "[" * 100_000), FATAL, "annotations.json is not JSON"),
    "another JSON": (text("annotations.json", "[1, 2]"), FATAL, "no object with images, annotations and categories"),
    "no list of images": (text("annotations.json", '{"images": 3}'), FATAL, "has no list `images`"),
    "1 GiB of annotations": (
        sparse("annotations.json", 2**30), FATAL,
        "annotations.json has 1,024 MiB, above the limit of 512 MiB for annotations; split the dataset",
    ),
    "a pipe for annotations": (
        lambda root: pipe(root / "annotations.json"), FATAL, "annotations.json is not a regular file",
    ),
    "no annotations": (
        lambda root: (root / "annotations.json").unlink(), FATAL,
        "there are no COCO annotations; put them into annotations.json",
    ),
    "an image id twice": (
        entry("images", 4, id=3), FATAL, "image id 3 occurs twice (003.png and 004.png); number the images anew",
    ),
    "an image twice": (entry("images", 4, file_name="003.png"), FATAL, "003.png is listed twice, as image 3 and 4"),
    "a category id twice": (entry("categories", 0, id=5), FATAL, "category id 5 occurs twice"),
    "a category name twice": (entry("categories", 0, name="cat"), FATAL, "two categories are named cat"),
    "an image without a name": (entry("images", 4, file_name=None), FATAL, "an entry of `images` has no whole number"),
    "an image whose name is no text": (
        entry("images", 4, file_name="\ud800.png"), FATAL, "an entry of `images` has no whole number",
    ),
    "a name that no file can have": (
        entry("images", 7, file_name="x" * 5000), WARNING, f"{'x' * 5000} is not a regular file",
    ),
    "an image that is not there": (
        lambda root: (root / "007.png").unlink(), WARNING, "007.png is listed in annotations.json and is not there",
    ),
    "an image outside": (
        entry("images", 7, file_name="../007.png"), WARNING, "../007.png does not lie below the dataset's folder",
    ),
    "an image of another size": (
        entry("images", 7, width=9), WARNING, "007.png is 8 x 8 pixels and not 9 x 8 as its annotations say",
    ),
    "no image size": (entry("images", 7, width=None, height=0), FINE, ""),
    "an unknown category": (
        annotation(category_id=77), WARNING,
        "007.png has a wrong annotation in annotations.json, id 1007: there is no category 77",
    ),
    "three numbers": (annotation(bbox=[1, 2, 3]), WARNING, "id 1007: bbox is [1, 2, 3], not four numbers"),
    "not a number": (annotation(bbox=[1, 2, 3, float("nan")]), WARNING, "id 1007: bbox is [1, 2, 3, nan], not four"),
    "a number beyond measure": (annotation(bbox=[1e308, 2, 1e308, 3]), WARNING, "not four numbers"),
    "words": (annotation(bbox=["left", 2, 3, 4]), WARNING, "id 1007: bbox is ['left', 2, 3, 4], not four numbers"),
    "a negative width": (annotation(bbox=[4, 4, -2, 2]), WARNING, "has a negative width or height"),
    "an image that is not listed": (
        annotation(image_id=12345), WARNING, "1 annotations are of images that are not listed, and ignored",
    ),
    "an annotation id twice": (annotation(id=1000), WARNING, "1 annotations have an id that is used before"),
    "a box that reaches out": (
        annotation(bbox=[4, 4, 400, 2]), WARNING,
        "1 boxes reach beyond their image and are clipped to it, for example in 007.png",
    ),
    "a box outside": (
        annotation(bbox=[40, 40, 4, 4]), WARNING,
        "1 boxes lie outside their image or have no area, and are left out, for example in 007.png",
    ),
    "a box without an area": (annotation(bbox=[4, 4, 0, 4]), WARNING, "or have no area, and are left out"),
    "a rounding error": (annotation(bbox=[4, 4, 4.3, 4.3]), FINE, ""),
    "no box at all": (
        lambda root: edit_coco(root, lambda content: content.update(annotations=[])), FATAL,
        "there is not one object in the annotations",
    ),
}  # fmt: skip

LABELS: dict[str, tuple[Damage, str, str]] = {
    "four numbers": (
        text("labels/007.txt", "1 0.5 0.5 0.5 0.5\n\n1 0.5 0.5 0.5\n"), WARNING,
        "images/007.png has a wrong label in labels/007.txt, line 3: it has 4 numbers and not 5",
    ),
    "an outline": (text("labels/007.txt", "0 0 0 1 1 0 1"), WARNING, "line 1: it has 7 numbers and not 5"),
    "not a number": (text("labels/007.txt", "0 nan 0.5 0.5 0.5"), WARNING, "line 1: nan is not a number that can be"),
    "a word": (text("labels/007.txt", "cat 0.5 0.5 0.5 0.5"), WARNING, "line 1: cat is not a number"),
    "a class out of range": (
        text("labels/007.txt", "2 0.5 0.5 0.5 0.5"), WARNING, "line 1: there is no class 2; classes are 0 to 1",
    ),
    "pixels": (text("labels/007.txt", "0 320 240 64 48"), WARNING, "are shares of the image's width and height"),
    "a negative width": (text("labels/007.txt", "0 0.5 0.5 -0.5 0.5"), WARNING, "must not be negative"),
    "no text": (text("labels/007.txt", b"\xff\xfe\x00"), WARNING, "labels/007.txt, which is not a text in UTF-8"),
    "a pipe": (lambda root: pipe(root / "labels/007.txt"), WARNING, "labels/007.txt, which is not a regular file"),
    "9 MiB of labels": (sparse("labels/007.txt", 9 * 2**20), WARNING, "which is above the limit of 8 MiB"),
    "an empty file": (text("labels/007.txt", ""), FINE, ""),
    "no file": (
        lambda root: (root / "labels/007.txt").unlink(), WARNING,
        "1 images have no file in labels and count as background, for example images/007.png",
    ),
    "labels of no image": (
        text("labels/nobody.txt", ""), WARNING, "1 files in labels belong to no image and are ignored",
    ),
    "no YAML": (text("data.yaml", "names: [a, b\nx: }"), FATAL, "data.yaml is not YAML"),
    "half a character": (text("data.yaml", 'names: ["\\ud800", dog]'), FINE, ""),
    "no names": (text("data.yaml", "nc: 2"), FATAL, "data.yaml has no list `names`"),
    "no folder of labels": (
        lambda root: shutil.rmtree(root / "labels"), FATAL, "there is a folder images, but no folder labels beside it",
    ),
    "no images": (
        lambda root: [shutil.rmtree(root / "images"), (root / "images").mkdir()], FATAL, "there are no images",
    ),
    "no object at all": (
        lambda root: [path.write_text("") for path in (root / "labels").iterdir()], FATAL,
        "there is not one object in the whole dataset",
    ),
}  # fmt: skip

PIXELS: dict[str, tuple[Damage, str, str]] = {
    "no mask": (
        lambda root: (root / "masks/007.png").unlink(), WARNING, "images/007.png has no mask of the same name in masks",
    ),
    "a mask of another size": (
        lambda root: Image.new("L", (4, 8)).save(root / "masks/007.png"), WARNING,
        "has a mask, masks/007.png, that is 4 x 8 pixels and not 8 x 8 like the image, upright",
    ),
    "a coloured mask": (
        lambda root: colourful(root / "masks/007.png"), WARNING,
        "has a mask, masks/007.png, that is coloured; write class numbers, 0, 1, 2",
    ),
    "a class out of range": (
        lambda root: mask_of(root / "masks/007.png", 2), WARNING, "has the value 2; classes are 0 to 1, and 255 is",
    ),
    "16 bits out of range": (
        lambda root: mask_of(root / "masks/007.png", 300, np.uint16), WARNING, "has the value 300; classes are 0 to 1",
    ),
    "16 bits": (lambda root: mask_of(root / "masks/007.png", 1, np.uint16), FINE, ""),
    "grey in three bands": (
        lambda root: Image.new("RGB", (8, 8), (1, 1, 1)).save(root / "masks/007.png"), FINE, "",
    ),
    "a truncated mask": (lambda root: truncate(root / "masks/007.png"), WARNING, "masks/007.png, that is damaged"),
    "an empty mask": (text("masks/007.png", ""), WARNING, "masks/007.png, that is not an image that can be decoded"),
    "a pipe": (lambda root: pipe(root / "masks/007.png"), WARNING, "masks/007.png, that is not a regular file"),
    "nothing labelled": (lambda root: mask_of(root / "masks/007.png", 255), FINE, ""),
    "a mask of no image": (
        lambda root: (root / "images/007.png").unlink(), WARNING, "1 masks belong to no image and are ignored",
    ),
    "one class": (text("classes.txt", "cat\n"), FATAL, "classes.txt names one class"),
    "a class twice": (text("classes.txt", "cat\ndog\ncat\n"), FATAL, "classes.txt: cat is named again in line 3"),
    "a line without a name": (text("classes.txt", "cat\n\ndog\n"), FATAL, "classes.txt: line 2 is empty"),
    "some colours": (text("classes.txt", "cat 0 0 0\ndog\n"), FATAL, "classes.txt: line 2 has no colour"),
    "masks of 0 and 255 without names": (
        lambda root: [
            (root / "classes.txt").unlink(), *(mask_of(path, 0) for path in (root / "masks").iterdir()),
        ],
        FATAL, "the masks hold one class only",
    ),
    "no folder of masks": (
        lambda root: shutil.rmtree(root / "masks"), FATAL, "there is a folder images, but no folder masks beside it",
    ),
}  # fmt: skip

CASES = [
    pytest.param(format_, *case, id=f"{format_}: {name}")
    for format_, cases in ((IMAGE_FOLDER, IMAGES), (COCO, BOXES), (YOLO, LABELS), (MASKS, PIXELS))
    for name, case in cases.items()
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("format_", "damage", "verdict", "told"), CASES)
def test_damage_is_a_clear_refusal_or_a_counted_warning(
    whole: dict[str, Path], tmp_path: Path, format_: str, damage: Damage, verdict: str, told: str
) -> None:
    root = tmp_path / "data"
    shutil.copytree(whole[format_], root)
    damage(root)
    report = look(root, format_)
    messages = [problem.message for problem in report.problems]
    assert report.usable == (verdict != FATAL), messages
    assert bool(report.problem_count) == (verdict != FINE), messages
    assert any(told in message for message in messages) or verdict == FINE, messages
    assert any(problem.fatal for problem in report.problems) == (verdict == FATAL)
    assert not any("\n" in problem.message + problem.path for problem in report.problems)
    if verdict == FATAL:
        with pytest.raises(DatasetFailure) as failure:
            data(root, format_)
        assert report.problems[0].message in failure.value.message
        return
    loaded = data(root, format_)
    assert len(loaded.train) + len(loaded.validation) == report.images
    for batch in loaded.source.batches([list(loaded.train), list(loaded.validation)]):
        assert batch.pixels.shape == (len(batch.indices), 3, 8, 8)


def test_a_problem_names_its_file_and_its_line(whole: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(whole[YOLO], root)
    (root / "labels" / "007.txt").write_text("0 0.5 0.5 0.5 0.5\n0 0.5\n")
    (problem,) = look(root, YOLO).problems
    assert (problem.path, problem.line, problem.fatal) == ("labels/007.txt", 2, False)
    shutil.copytree(whole[COCO], tmp_path / "coco")
    (tmp_path / "coco" / "annotations.json").write_text('{\n"images": [],\n"annotations": oops}')
    (problem,) = look(tmp_path / "coco", COCO).problems
    assert (problem.path, problem.line, problem.fatal) == ("annotations.json", 3, True)


@pytest.mark.slow
def test_whatever_is_written_over_a_dataset_the_check_and_the_training_agree_and_never_fail_otherwise(
    tmp_path: Path,
) -> None:
    generator = random.Random(0)
    few = {name: make(tmp_path / name, 6) for name, make in datasets.MAKERS.items()}
    for turn in range(1500):
        format_ = generator.choice(sorted(few))
        root = tmp_path / "damaged"
        shutil.copytree(few[format_], root)
        path = generator.choice(sorted(path for path in root.rglob("*") if path.is_file()))
        path.write_bytes(scribble(generator, path.read_bytes()))
        try:
            data(root, format_)
            trained = True
        except DatasetFailure:
            trained = False
        assert look(root, format_).usable == trained, (turn, format_, path)
        shutil.rmtree(root)


def scribble(generator: random.Random, content: bytes) -> bytes:
    """Some bytes changed, lost, doubled, or replaced by what a parser may stumble over."""
    words = (b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'"x"', b"true", b"9" * 25, b"\n", b" ", b"\0")
    for _ in range(generator.randint(1, 6)):
        at, to = generator.randint(0, len(content)), generator.randint(0, 20)
        put = generator.choice([*words, b"", content[at : at + to], bytes([generator.randrange(256)])])
        content = content[:at] + put + content[at + generator.choice((0, to)) :]
    return content


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that an unprivileged user may enter; this process acts as that user until the test ends."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        Path(folder).chmod(0o777)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_what_may_not_be_read_is_told_with_the_reason(nobody: Path) -> None:
    root = datasets.image_folder(nobody / "data")
    (root / "cat" / "002.png").chmod(0)
    report = look(root)
    assert report.usable
    assert [problem.message for problem in report.problems] == ["cat/002.png cannot be read: Permission denied"]
    assert any("cannot be read: Permission denied; it is skipped" in warning for warning in data(root).warnings)
    (root / "dog").chmod(0)
    assert "the folder cannot be read: Permission denied" in look(root).problems[0].message
    (root / "dog").chmod(0o700)
