"""Every metric equals an independent computation on the same predictions."""

import json
import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from sklearn import metrics as reference

from protos.training.v1 import training_pb2
from runner_agent.trainer.batch import NOT_LABELLED, Batch, Boxes, Detections, Predictions
from runner_agent.trainer.evaluation import evaluators
from runner_agent.trainer.evaluation.base import Evaluation
from tests.support import batches, coco_reference, shared_evaluation
from tests.support.batches import Sample

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cat", "dog")


def measured(task: int, samples: Sequence[Sample], classes: Sequence[str] = CLASSES) -> Evaluation:
    evaluator = evaluators.make(task, classes, CPU, with_matrix=True)
    for number, (batch, predictions) in enumerate(samples, 1):
        evaluator.add(torch.tensor(float(number)), predictions, batch)
    return evaluator.result(Fabric(accelerator="cpu", devices=1))


def matrix_of(found: Evaluation) -> list[list[int]]:
    assert found.matrix is not None
    count = len(found.matrix.classes)
    return np.array(found.matrix.counts).reshape(count, count).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_classifiers_metrics_are_scikit_learns(seed: int) -> None:
    # Of the last class there is nothing in some of the runs.
    samples = [batches.classification(seed * 10 + at, images, 4 - seed % 2) for at, images in enumerate((7, 5, 1))]
    samples = [(batch, torch.nn.functional.pad(batches.joined([scores]), (0, seed % 2))) for batch, scores in samples]
    found = measured(training_pb2.TASK_CLASSIFICATION, samples)
    truth = batches.joined(batch.targets for batch, _ in samples).numpy()
    predicted = batches.joined(scores for _, scores in samples).argmax(1).numpy()
    there = np.union1d(truth, predicted)
    precision, recall, f1, support = reference.precision_recall_fscore_support(truth, predicted, zero_division=0)
    assert found.metrics == pytest.approx(
        {
            "validation/loss": (7 * 1 + 5 * 2 + 1 * 3) / 13,
            "validation/accuracy": reference.accuracy_score(truth, predicted),
            "validation/precision": precision.mean(),
            "validation/recall": recall.mean(),
            "validation/f1": f1.mean(),
        }
    )
    told = dict(zip(there.tolist(), zip(precision, recall, f1, support, strict=True), strict=True))
    for number, one in enumerate(found.classes):
        assert one.name == CLASSES[number]
        if number not in told:
            assert (one.metrics, one.support) == ({}, 0)
        else:
            assert (*one.metrics.values(), one.support) == pytest.approx(told[number])
    # Scikit-learn has the truth in rows.
    assert matrix_of(found) == reference.confusion_matrix(truth, predicted, labels=range(4)).T.tolist()
    assert found.matrix is not None
    assert not found.matrix.background


@pytest.mark.parametrize("seed", range(5))
def test_a_segmentations_metrics_are_those_counted_pixel_by_pixel(seed: int) -> None:
    samples = [batches.segmentation(seed * 10 + at, images, 4 - seed % 2) for at, images in enumerate((3, 1))]
    found = measured(training_pb2.TASK_SEGMENTATION, samples)
    truth = batches.joined(batch.targets for batch, _ in samples).numpy()
    predicted = batches.joined(one for _, one in samples).numpy()
    counted = truth != NOT_LABELLED
    ious = []
    for number, one in enumerate(found.classes):
        is_, said = (truth == number) & counted, (predicted == number) & counted
        union = int((is_ | said).sum())
        assert one.support == int(is_.sum())
        if not union:
            assert one.metrics == {}
            continue
        ious.append(int((is_ & said).sum()) / union)
        assert one.metrics["iou"] == pytest.approx(ious[-1])
        assert one.metrics["precision"] == pytest.approx((is_ & said).sum() / max(said.sum(), 1))
        assert one.metrics["recall"] == pytest.approx((is_ & said).sum() / max(is_.sum(), 1))
    assert found.metrics == pytest.approx(
        {
            "validation/loss": (3 * 1 + 1 * 2) / 4,
            "validation/miou": sum(ious) / len(ious),
            "validation/pixel_accuracy": (truth == predicted)[counted].mean(),
        }
    )
    expected = [[int(((predicted == row) & (truth == column)).sum()) for column in range(4)] for row in range(4)]
    assert matrix_of(found) == expected


@pytest.mark.parametrize("seed", range(8))
def test_a_detectors_metrics_are_cocos(seed: int) -> None:
    samples = [
        batches.detection(seed * 10 + at, images, 3, first=20 * at, ties=seed % 2 == 0)
        for at, images in enumerate((9, 1, 8))
    ]
    found = measured(training_pb2.TASK_DETECTION, samples, CLASSES)
    images = [one for sample in samples for one in coco_reference.images(*sample)]
    expected = {"validation/loss": (9 * 1 + 1 * 2 + 8 * 3) / 18, **coco_reference.metrics(images, 4)}
    assert found.metrics == pytest.approx(expected)
    assert {"validation/map_small", "validation/map_large", "validation/ar_1"} <= found.metrics.keys()
    for number, one in enumerate(found.classes):
        truths = [each for truth, _ in images for each in truth if each.label == number and not each.crowd]
        assert one.support == len(truths)
        by_overlap = [
            coco_reference.average_precision(images, number, "all", 100, at) for at in coco_reference.OVERLAPS
        ]
        if by_overlap[0] is None:
            assert one.metrics == {}
        else:
            precisions, recalls = zip(*by_overlap, strict=True)
            assert one.metrics["average_precision"] == pytest.approx(np.mean(precisions))
            assert one.metrics["average_precision_50"] == pytest.approx(precisions[0])
            assert one.metrics["average_recall"] == pytest.approx(np.mean(recalls))


@pytest.mark.parametrize("seed", range(5))
def test_a_detectors_matrix_counts_every_object_and_every_sure_detection_once(seed: int) -> None:
    batch, predictions = batches.detection(seed, 20, 3)
    found = measured(training_pb2.TASK_DETECTION, [(batch, predictions)], CLASSES[:3])
    expected = np.zeros((4, 4), int)
    for truth, detected in coco_reference.images(batch, predictions):
        free = [one for one in truth if not one.crowd]
        crowds = [one for one in truth if one.crowd]
        for one in sorted((one for one in detected if one.score >= 0.25), key=lambda one: -one.score):
            near = [other for other in free if coco_reference.iou(one, other) >= 0.5 - 1e-9]
            if near:
                best = max(near, key=lambda other: (coco_reference.iou(one, other), other.label == one.label))
                free.remove(best)
                expected[one.label, best.label] += 1
            elif not any(coco_reference.iou(one, crowd) >= 0.5 for crowd in crowds):
                expected[one.label, 3] += 1
        for other in free:
            expected[3, other.label] += 1
    assert matrix_of(found) == expected.tolist()
    assert found.matrix is not None
    assert (found.matrix.background, found.matrix.iou_threshold) == (True, 0.5)
    assert list(found.matrix.classes) == [*CLASSES[:3], "background"]
    objects = sum(int((~one.crowd).sum()) for one in batch.targets)
    assert expected[:, :3].sum() == objects


def test_a_class_named_background_comes_last_and_is_marked() -> None:
    batch, predictions = batches.segmentation(1, 2, 3)
    plain = measured(training_pb2.TASK_SEGMENTATION, [(batch, predictions)], CLASSES[:3])
    named = measured(training_pb2.TASK_SEGMENTATION, [(batch, predictions)], ("Background", "bee", "cat"))
    assert named.matrix is not None
    assert named.matrix.background
    assert list(named.matrix.classes) == ["bee", "cat", "Background"]
    order = [1, 2, 0]
    assert matrix_of(named) == [[matrix_of(plain)[row][column] for column in order] for row in order]


def detected(truth: list[list[float]], found: list[list[float]], scores: list[float]) -> dict[str, float]:
    """Metrics of one image of 100 × 100 pixels with objects of one class."""
    boxes = Boxes(torch.tensor(truth).view(-1, 4), torch.zeros(len(truth)).long(), torch.zeros(len(truth)).bool())
    detections = Detections(torch.tensor(found).view(-1, 4), torch.zeros(len(found)).long(), torch.tensor(scores))
    batch = Batch((0,), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), (boxes,), torch.tensor([[100, 100]]))
    return measured(training_pb2.TASK_DETECTION, [(batch, (detections,))], ("ant",)).metrics


def test_without_objects_a_detector_has_no_figure_and_sizes_that_do_not_occur_are_left_out() -> None:
    metrics = detected([], [[0.1, 0.1, 0.5, 0.5]], [0.9])
    assert math.isnan(metrics["validation/map"])
    assert not [name for name in metrics if "small" in name or "large" in name]
    # 40 × 40 pixels in the dataset: medium, whatever the image was resized to.
    metrics = detected([[0.1, 0.1, 0.5, 0.5]], [[0.1, 0.1, 0.5, 0.5]], [0.9])
    assert metrics["validation/map"] == metrics["validation/map_medium"] == pytest.approx(1)
    assert not [name for name in metrics if "small" in name or "large" in name]


def test_detections_that_are_no_numbers_are_passed_over() -> None:
    metrics = detected([[0.1, 0.1, 0.5, 0.5]], [[math.nan, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.5]], [math.nan, 0.4])
    assert metrics["validation/map"] == pytest.approx(1)
    assert detected([[0.1, 0.1, 0.5, 0.5]], [], [])["validation/map"] == 0


def test_an_evaluation_without_images_is_not_a_number() -> None:
    for task in (training_pb2.TASK_CLASSIFICATION, training_pb2.TASK_DETECTION, training_pb2.TASK_SEGMENTATION):
        assert math.isnan(measured(task, []).metrics["validation/loss"])


def test_an_image_that_comes_twice_is_counted_once_by_a_detector() -> None:
    sample: tuple[Batch, Predictions] = batches.detection(3, 6, 2)
    once, twice = measured(training_pb2.TASK_DETECTION, [sample]), measured(training_pb2.TASK_DETECTION, [sample] * 2)
    assert matrix_of(once) == matrix_of(twice)
    assert once.metrics["validation/map"] == twice.metrics["validation/map"]


def test_processes_that_share_the_images_each_find_what_one_alone_finds() -> None:
    command = [sys.executable, "-m", "tests.support.shared_evaluation", "2"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    first, second = json.loads(ran.stdout.splitlines()[-1])
    alone = json.loads(json.dumps(shared_evaluation.evaluate(Fabric(accelerator="cpu", devices=1))))
    assert first == second
    for together, single in zip(first, alone, strict=True):
        assert together[0] == pytest.approx(single[0], rel=1e-12)
        assert together[1:] == single[1:]


def test_a_model_that_computes_in_bfloat16_is_measured_as_others() -> None:
    for task, (batch, predictions) in {
        training_pb2.TASK_CLASSIFICATION: batches.classification(1, 9, 3),
        training_pb2.TASK_DETECTION: batches.detection(2, 9, 3),
    }.items():
        if isinstance(predictions, torch.Tensor):
            halved: Predictions = predictions.bfloat16()
        else:
            halved = tuple(Detections(one.boxes.bfloat16(), one.labels, one.scores.bfloat16()) for one in predictions)
        evaluator = evaluators.make(task, CLASSES, CPU, with_matrix=True, previews=(0, 1))
        evaluator.add(torch.tensor(0.5).bfloat16(), halved, batch)
        found = evaluator.result(Fabric(accelerator="cpu", devices=1))
        assert found.metrics["validation/loss"] == 0.5
        assert len(found.predictions) == 2
