"""Where the images of each format may lie, what is read of them, and how they are split."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from protos.training.v1 import training_pb2
from runner_agent.trainer.batch import Boxes
from runner_agent.trainer.datasets import loading, sample
from runner_agent.trainer.datasets.examples import place
from runner_agent.trainer.datasets.listing import Objects
from runner_agent.trainer.datasets.loading import Data
from tests.support import datasets
from tests.support.datasets import COCO, IMAGE_FOLDER, MASKS, YOLO, data, edit_coco, look, picture


def boxes_of(loaded: Data) -> dict[str, tuple[list[list[float]], list[int], list[bool]]]:
    """Path of each image → boxes, labels and crowds of its objects."""
    found = {}
    for batch in loaded.source.batches([list(loaded.train), list(loaded.validation)]):
        for index, one in zip(batch.indices, batch.targets, strict=True):
            assert isinstance(one, Boxes)
            found[loaded.source.picture(index)[0]] = (one.boxes.tolist(), one.labels.tolist(), one.crowd.tolist())
    return found


def parts_of(loaded: Data) -> tuple[set[str], set[str]]:
    """Paths of the images to train and to validate on."""
    train, validation = (
        {loaded.source.picture(index)[0] for index in one} for one in (loaded.train, loaded.validation)
    )
    return train, validation


def move(root: Path, *pairs: tuple[str, str]) -> None:
    for source, target in pairs:
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / source, root / target)


def test_coco_and_yolo_say_the_same_of_the_same_boxes(tmp_path: Path) -> None:
    coco, yolo = data(datasets.coco(tmp_path / "c", 4), COCO), data(datasets.yolo(tmp_path / "y", 4), YOLO)
    assert coco.classes == yolo.classes == ("cat", "dog"), "in the order of COCO's category ids, holes and all"
    expected = ([[0.25, 0.25, 0.75, 0.75]], [0], [False])
    assert boxes_of(coco)["000.png"] == boxes_of(yolo)["images/000.png"] == expected
    assert boxes_of(coco)["001.png"] == boxes_of(yolo)["images/001.png"] == (*expected[:1], [1], [False])
    report = look(tmp_path / "c", COCO)
    assert report.task == training_pb2.TASK_DETECTION
    assert [(one.name, one.images, one.objects) for one in report.classes] == [("cat", 2, 2), ("dog", 2, 2)]
    assert (report.min_width, report.max_height, report.bytes > 0, len(report.fingerprint)) == (8, 8, True, 64)


def test_a_crowd_is_kept_as_one_and_an_image_without_boxes_is_background(tmp_path: Path) -> None:
    root = datasets.coco(tmp_path, 4)
    edit_coco(root, lambda content: (content["annotations"][0].update(iscrowd=1), content["annotations"].pop()))
    found = boxes_of(data(root, COCO))
    assert found["000.png"][2] == [True]
    assert found["003.png"] == ([], [], [])


def test_masks_are_resized_without_making_up_classes(tmp_path: Path) -> None:
    root = datasets.masks(tmp_path, 4)
    loaded = data(root, MASKS, image_size=20)
    (batch,) = loaded.source.batches([list(loaded.train)])
    assert isinstance(batch.targets, Tensor)
    assert batch.targets.shape == (len(loaded.train), 20, 20)
    assert batch.targets.dtype == torch.uint8
    assert batch.targets.unique().tolist() == [0, 1, 255]
    assert batch.sizes.tolist() == [[8, 8]] * len(loaded.train)
    assert [(one.name, one.images, one.pixels) for one in look(root, MASKS).classes] == [
        ("background", 4, 4 * 28),
        ("cat", 4, 4 * 28),
    ]
    assert loaded.train_support == (28 * len(loaded.train), 28 * len(loaded.train))


def test_a_palette_gives_its_indices_and_colours_their_classes(tmp_path: Path) -> None:
    root = datasets.masks(tmp_path, 4)
    expected = np.asarray(Image.open(root / "masks" / "000.png"))
    indexed = Image.fromarray(expected, "P")
    indexed.putpalette([255, 0, 0, 0, 255, 0, *([9] * 762)])
    for index in range(4):
        indexed.save(root / "masks" / f"{index:03d}.png")

    def masks() -> np.ndarray:
        loaded = data(root, MASKS)
        (batch,) = loaded.source.batches([list(loaded.train)[:1]])
        assert isinstance(batch.targets, Tensor)
        return batch.targets[0].numpy()

    assert (masks() == expected).all()
    (root / "classes.txt").write_text("back ground 255 0 0\ncat 0 255 0\n")
    for index in range(4):
        indexed.convert("RGB").save(root / "masks" / f"{index:03d}.png")
    assert (masks() == expected).all(), "the colour of 255 is none of a class"
    assert data(root, MASKS).classes == ("back ground", "cat")


def test_classes_without_names_are_the_numbers_that_are_found(tmp_path: Path) -> None:
    masks, yolo = datasets.masks(tmp_path / "m", 4), datasets.yolo(tmp_path / "y", 4)
    (masks / "classes.txt").unlink()
    (yolo / "data.yaml").unlink()
    (yolo / "labels" / "003.txt").write_text("3 0.5 0.5 0.5 0.5\n")
    assert data(masks, MASKS).classes == ("0", "1")
    assert data(yolo, YOLO).classes == ("0", "1", "2", "3")
    assert "1 class has not one object: 2" in data(yolo, YOLO).warnings
    (yolo / "classes.txt").write_text("cat\ndog\nowl\nfox\n")
    assert data(yolo, YOLO).classes == ("cat", "dog", "owl", "fox")


def split_image_folder(root: Path, validation: str) -> None:
    move(root, ("cat", "train/cat"), ("dog/001.png", f"{validation}/dog/001.png"), ("dog", "train/dog"))
    move(root, ("train/cat/000.png", f"{validation}/cat/000.png"))


def split_coco(root: Path, validation: str) -> None:
    """A folder for each part, whose categories are numbered otherwise."""
    for part, kept in (("train", {2, 3}), (validation, {0, 1})):
        (root / part).mkdir()
        content = json.loads((root / "annotations.json").read_text())
        content["images"] = [one for one in content["images"] if one["id"] in kept]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
        if part != "train":
            content["categories"] = [{"id": 5, "name": "dog"}, {"id": 9, "name": "cat"}]
        (root / part / "_annotations.coco.json").write_text(json.dumps(content))
        move(root, *((f"{index:03d}.png", f"{part}/{index:03d}.png") for index in kept))
    (root / "annotations.json").unlink()


def split_coco_apart(root: Path, validation: str) -> None:
    """As COCO itself is distributed."""
    split_coco(root, validation)
    for part in ("train", validation):
        move(root, (f"{part}/_annotations.coco.json", f"annotations/instances_{part}2017.json"))
        move(root, (part, f"{part}2017"))


def split_paired(other: str, suffix: str, pattern: str) -> Callable[[Path, str], None]:
    def split(root: Path, validation: str) -> None:
        for part, kept in (("train", (2, 3)), (validation, (0, 1))):
            for index in kept:
                for folder, ending in (("images", "png"), (other, suffix)):
                    name = f"{index:03d}.{ending}"
                    move(root, (f"{folder}/{name}", "new/" + pattern.format(part=part, folder=folder) + f"/{name}"))
        for folder in ("images", other):
            (root / folder).rmdir()
        move(root, *((f"new/{path.name}", path.name) for path in list((root / "new").iterdir())))
        (root / "new").rmdir()

    return split


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
@pytest.mark.parametrize(
    ("format_", "split"),
    [
        (IMAGE_FOLDER, split_image_folder),
        (COCO, split_coco),
        (COCO, split_coco_apart),
        (YOLO, split_paired("labels", "txt", "{folder}/{part}")),
        (YOLO, split_paired("labels", "txt", "{part}/{folder}")),
        (MASKS, split_paired("masks", "png", "{folder}/{part}")),
        (MASKS, split_paired("masks", "png", "{part}/{folder}")),
    ],
)
def test_a_dataset_that_is_split_already_is_split_that_way(
    tmp_path: Path, format_: str, split: Callable[[Path, str], None], validation: str
) -> None:
    root = datasets.MAKERS[format_](tmp_path, 4)
    split(root, validation)
    loaded = data(root, format_)
    train, held_out = ({path.rpartition("/")[2] for path in part} for part in parts_of(loaded))
    assert (train, held_out) == ({"002.png", "003.png"}, {"000.png", "001.png"})
    report = look(root, format_)
    assert report.usable
    assert (report.train_images, report.validation_images, report.images) == (2, 2, 4)
    if format_ == COCO:
        labels = {path.rpartition("/")[2]: found[1] for path, found in boxes_of(loaded).items()}
        assert loaded.classes == ("cat", "dog")
        assert labels == {"000.png": [1], "001.png": [0], "002.png": [0], "003.png": [1]}, "by name, not by number"


def test_a_folder_for_tests_is_ignored_and_said_to_be(tmp_path: Path) -> None:
    root = datasets.image_folder(tmp_path, 4)
    split_image_folder(root, "val")
    picture(root / "test" / "cat" / "9.png")
    report = look(root)
    assert (report.images, report.problem_count) == (4, 1)
    assert report.problems[0].message.startswith("the folder test is ignored")


def test_a_class_may_be_named_train(tmp_path: Path) -> None:
    for name in ("train", "test"):
        for index in range(4):
            picture(tmp_path / name / f"{index}.png", index)
    assert data(tmp_path).classes == ("test", "train")


@pytest.mark.parametrize("format_", [COCO, YOLO, MASKS])
def test_a_dataset_of_another_format_than_registered_is_recognised(tmp_path: Path, format_: str) -> None:
    root = datasets.MAKERS[format_](tmp_path, 4)
    for other in {IMAGE_FOLDER, COCO, YOLO, MASKS} - {format_}:
        report = look(root, other)
        assert not report.usable
        hint = f"this looks like another format; register it with --format {format_}"
        assert report.problems[0].message == hint


def test_boxes_are_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    root = datasets.coco(tmp_path, 2)
    Image.new("RGB", (8, 4)).save(root / "000.jpg", exif=exif)
    edit_coco(root, lambda content: content["images"][0].update(file_name="000.jpg", width=4, height=8))
    edit_coco(root, lambda content: content["annotations"][0].update(bbox=[0, 4, 4, 4]))
    loaded = data(root, COCO)
    assert boxes_of(loaded)["000.jpg"][0] == [[0.0, 0.5, 1.0, 1.0]]
    (batch,) = loaded.source.batches([[0]])
    assert batch.sizes.tolist() == [[4, 8]]
    assert loaded.source.picture(0)[1].size == (4, 8)


@pytest.mark.parametrize("format_", [IMAGE_FOLDER, COCO, YOLO, MASKS])
def test_worker_processes_read_what_memory_holds(tmp_path: Path, format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = datasets.MAKERS[format_](tmp_path, 12)
    in_memory = data(root, format_)
    monkeypatch.setattr(loading, "MAX_DECODED_BYTES", 0)
    on_disk = data(root, format_)
    indices = [list(in_memory.train[:3]), list(in_memory.validation)]
    assert (on_disk.train, on_disk.validation) == (in_memory.train, in_memory.validation)
    assert on_disk.train_support == in_memory.train_support
    for one, other in zip(in_memory.source.batches(indices), on_disk.source.batches(indices), strict=True):
        assert one.indices == other.indices
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.sizes, other.sizes)
        if isinstance(one.targets, Tensor):
            assert isinstance(other.targets, Tensor)
            assert torch.equal(one.targets, other.targets)
        else:
            assert str(one.targets) == str(other.targets)


@pytest.mark.parametrize("format_", [COCO, YOLO, MASKS])
def test_a_changed_label_changes_the_fingerprint(tmp_path: Path, format_: str) -> None:
    root = datasets.MAKERS[format_](tmp_path, 4)
    before = look(root, format_).fingerprint
    assert look(root, format_).fingerprint == before
    if format_ == COCO:
        edit_coco(root, lambda content: content["annotations"][0].update(bbox=[2, 2, 4, 3]))
    elif format_ == YOLO:
        (root / "labels" / "000.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    else:
        Image.new("L", (8, 8)).save(root / "masks" / "000.png")
    assert look(root, format_).fingerprint != before


def test_a_box_is_clipped_to_the_image_and_left_out_where_nothing_is_left() -> None:
    boxes = np.array([[-10, 0, 50, 100], [0, 0, 100, 100.9], [200, 0, 300, 50], [5, 5, 5, 9]], np.float64)
    placed = place(Objects(boxes, np.arange(4), np.zeros(4, bool), in_pixels=True), (100, 100))
    assert placed.boxes.tolist() == [[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]]
    assert placed.labels.tolist() == [0, 1]
    assert (placed.clipped, placed.dropped) == (1, 2), "less than a pixel is a matter of rounding"


def test_the_samples_are_whole_and_the_same_each_time(tmp_path: Path) -> None:
    sample.write_detection(tmp_path / "coco")
    sample.write_detection(tmp_path / "yolo", yolo=True)
    sample.write_segmentation(tmp_path / "masks")
    masks = look(tmp_path / "masks", MASKS)
    assert (masks.usable, masks.problem_count) == (True, 0)
    coco, yolo = data(tmp_path / "coco", COCO), data(tmp_path / "yolo", YOLO)
    assert len(coco.train) + len(coco.validation) == masks.images
    assert coco.classes == yolo.classes == ("0", "1", "2", "3", "4")
    assert (coco.warnings, yolo.warnings) == ((), ())
    assert sum(coco.train_support) == sum(yolo.train_support) > 500
    assert list(boxes_of(coco).values()) == list(boxes_of(yolo).values()), "each was made anew"
