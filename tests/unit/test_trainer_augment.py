"""Augmentations: pixels, boxes and label maps move together, and the same randomness gives the same images."""

import pytest
import torch
from torch import Tensor

from protos.training.v1 import training_pb2
from runner_agent.trainer import randomness
from runner_agent.trainer.augment import Augment, change, move_boxes
from runner_agent.trainer.batch import NOT_LABELLED, Batch, Boxes
from runner_agent.trainer.pixels import MEAN, normalise

CPU = torch.device("cpu")
SIZE = 48
Augmentations = training_pb2.Augmentations


def boxes(*sides: tuple[float, float, float, float]) -> Boxes:
    count = len(sides)
    return Boxes(torch.tensor(sides).view(-1, 4), torch.arange(count), torch.zeros(count, dtype=torch.bool))


def one_rectangle(box: tuple[int, int, int, int]) -> tuple[Tensor, Boxes, Tensor]:
    """A white rectangle on black as pixels, as a box, and as a label map; all say the same."""
    left, top, right, bottom = box
    labels = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    labels[top:bottom, left:right] = 1
    return (labels * 255).expand(3, -1, -1), boxes((left / SIZE, top / SIZE, right / SIZE, bottom / SIZE)), labels


def batch(pixels: Tensor, targets: Tensor | tuple[Boxes, ...]) -> Batch:
    return Batch(tuple(range(len(pixels))), pixels, targets, torch.full((len(pixels), 2), SIZE))


def extent(filled: Tensor) -> Tensor:
    """Left, top, right and bottom of what is True, in shares."""
    rows, columns = filled.any(1).nonzero()[:, 0], filled.any(0).nonzero()[:, 0]
    sides = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return sides / SIZE


@pytest.mark.parametrize(
    "chosen",
    [
        Augmentations(horizontal_flip=0.5),
        Augmentations(vertical_flip=0.5, horizontal_flip=0.5),
        Augmentations(crop_min_area=0.3),
        Augmentations(rotation_degrees=180),
        Augmentations(rotation_degrees=20, horizontal_flip=0.5, vertical_flip=0.5, crop_min_area=0.4),
    ],
)
def test_boxes_and_label_maps_move_exactly_as_the_pixels_do(chosen: training_pb2.Augmentations) -> None:
    pixels, box, labels = one_rectangle((11, 17, 23, 35))
    count = 40
    randomness.begin(1, 2, 0, 1)
    moved, targets = Augment(chosen)(batch(pixels.repeat(count, 1, 1, 1), (box,) * count), CPU)
    randomness.begin(1, 2, 0, 1)
    _, maps = Augment(chosen)(batch(pixels.repeat(count, 1, 1, 1), labels.repeat(count, 1, 1)), CPU)
    assert isinstance(targets, tuple)
    assert isinstance(maps, Tensor)
    assert maps.dtype == torch.uint8
    assert (maps == NOT_LABELLED).any() == bool(chosen.rotation_degrees), "outside of the image nothing is labelled"
    seen = 0
    for image, found, label_map in zip(moved, targets, maps, strict=True):
        white = (image[0] > 127) & (label_map != NOT_LABELLED)
        # Where a pixel is divided, its label is that of its larger part.
        assert (white != (label_map == 1)).sum() <= 0.06 * (label_map == 1).sum() + 6
        if len(found.boxes):
            seen += 1
            assert (extent(label_map == 1) - found.boxes[0]).abs().max() <= 1.5 / SIZE
        else:
            assert (label_map == 1).sum() < 0.2 * 12 * 18 / 0.3
    assert seen > count * 0.6


def test_what_is_hardly_left_of_an_object_is_not_an_object() -> None:
    shifted = change(Augmentations(), torch.zeros(1, 12))
    shifted = type(shifted)(shifted.matrix, torch.tensor([[0.5, 0.0]]), shifted.erased)
    found = move_boxes(boxes((0.0, 0.0, 0.4, 0.4), (0.3, 0.0, 0.6, 0.4), (0.49, 0.0, 0.95, 0.4)), shifted, 0, 100)
    assert found.labels.tolist() == [0, 1], "2 % of the third one are left"
    assert found.boxes[1].tolist() == pytest.approx([0.8, 0.0, 1.0, 0.4])
    thin = move_boxes(boxes((0.1, 0.1, 0.115, 0.9)), shifted, 0, 100)
    assert not len(thin.boxes), "a pixel and a half"


def test_a_batch_without_boxes_and_a_crowd_pass_through() -> None:
    none = boxes()
    crowd = Boxes(torch.tensor([[0.2, 0.2, 0.8, 0.8]]), torch.tensor([4]), torch.tensor([True]))
    chosen = Augmentations(horizontal_flip=1, rotation_degrees=5, erasing=0.5)
    _, targets = Augment(chosen)(batch(torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), (none, crowd)), CPU)
    assert isinstance(targets, tuple)
    assert [len(one.boxes) for one in targets] == [0, 1]
    assert targets[1].crowd.tolist() == [True]
    assert targets[1].labels.tolist() == [4]


def test_every_augmentation_changes_images_and_leaves_their_range() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (8, 3, SIZE, SIZE), dtype=torch.uint8)
    given = batch(pixels, torch.zeros(8, dtype=torch.int64))
    plain, _ = Augment(Augmentations())(given, CPU)
    assert plain is pixels, "nothing costs nothing"
    for name in (field.name for field in Augmentations.DESCRIPTOR.fields):
        value = 30.0 if name == "rotation_degrees" else 0.5
        changed, targets = Augment(Augmentations(**{name: value}))(given, CPU)
        assert changed.dtype == torch.float32, name
        assert not torch.equal(changed, pixels.float()), name
        assert changed.min() >= -0.01, name
        assert changed.max() <= 255.01, name
        assert torch.equal(torch.as_tensor(targets), torch.zeros(8, dtype=torch.int64)), name


def test_what_is_erased_is_the_mean_to_the_model_and_no_label() -> None:
    labels = torch.ones(6, SIZE, SIZE, dtype=torch.uint8)
    white = torch.full((6, 3, SIZE, SIZE), 255, dtype=torch.uint8)
    pixels, maps = Augment(Augmentations(erasing=1))(batch(white, labels), CPU)
    assert isinstance(maps, Tensor)
    hole = maps == NOT_LABELLED
    shares = hole.float().mean((1, 2))
    assert bool(((shares > 0.01) & (shares < 0.23)).all())
    assert normalise(pixels).permute(0, 2, 3, 1)[hole].abs().max() < 1e-5
    assert len(MEAN) == 3


def test_a_box_that_is_erased_for_the_most_part_is_gone() -> None:
    plain = change(Augmentations(), torch.zeros(1, 12))
    erasing = type(plain)(plain.matrix, plain.shift, torch.tensor([[0.0, 0.0, 0.5, 0.5]]))
    assert move_boxes(boxes((0.1, 0.1, 0.5, 0.5), (0.1, 0.1, 0.9, 0.9)), erasing, 0, 100).labels.tolist() == [1]


def test_probabilities_and_ranges_are_those_that_were_chosen() -> None:
    torch.manual_seed(3)
    chosen = Augmentations(horizontal_flip=0.3, rotation_degrees=40, crop_min_area=0.5)
    found = change(chosen, torch.rand(20_000, 12))
    determinant = found.matrix.det()
    assert float((determinant < 0).float().mean()) == pytest.approx(0.3, abs=0.015)
    area = 1 / determinant.abs()
    # A crop that would be wider than the image is cut to it.
    assert 0.5 * 0.86 <= float(area.min()) <= float(area.max()) <= 1.0001
    turned = change(Augmentations(rotation_degrees=40), torch.rand(20_000, 12)).matrix
    degrees = torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).rad2deg()
    assert float(degrees.abs().max()) <= 40.001
    assert (float(degrees.min()), float(degrees.max())) == pytest.approx((-40, 40), abs=0.5)


def test_the_same_seed_step_process_and_part_draw_the_same_and_others_others() -> None:
    chosen = Augmentations(horizontal_flip=0.5, rotation_degrees=10, brightness=0.2, blur=0.5)
    torch.manual_seed(1)
    given = batch(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))

    def drawn(*where: int) -> Tensor:
        torch.rand(7)
        randomness.begin(*where)
        return Augment(chosen)(given, CPU)[0]

    assert torch.equal(drawn(1, 2, 0, 1), drawn(1, 2, 0, 1))
    for other in ((2, 2, 0, 1), (1, 3, 0, 1), (1, 2, 1, 1), (1, 2, 0, 2)):
        assert not torch.equal(drawn(1, 2, 0, 1), drawn(*other))
