"""Previews: which images, what is told of them, and that they give way first."""

import io
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric import Fabric
from PIL import Image

from protos.metrics.v1 import ingest_pb2, preview_pb2
from protos.training.v1 import training_pb2
from runner_agent import spool_budget
from runner_agent.losses import Loss
from runner_agent.trainer.batch import NOT_LABELLED, Detections
from runner_agent.trainer.control import Control
from runner_agent.trainer.evaluation import annotations, evaluators, previews
from runner_agent.trainer.evaluation.base import Evaluation
from runner_agent.trainer.reporter import Reporter
from runner_agent.trainer.spool import Spool
from tests.support import batches

CLASSES = ("ant", "bee", "cat")
CASES = {
    "classification": (training_pb2.TASK_CLASSIFICATION, batches.classification(1, 40, 3)),
    "detection": (training_pb2.TASK_DETECTION, batches.detection(1, 40, 3)),
    "segmentation": (training_pb2.TASK_SEGMENTATION, batches.segmentation(1, 40, 3)),
}


def decoded(label_map: preview_pb2.LabelMap) -> np.ndarray:
    flat = np.repeat(np.array(label_map.classes, np.uint8), label_map.lengths)
    return flat.reshape(label_map.height, label_map.width)


def previewed(case: str) -> tuple[list[preview_pb2.PreviewImage], Evaluation, tuple[int, ...]]:
    task, (batch, predictions) = CASES[case]
    held = batches.data(batch, CLASSES)
    chosen = previews.choose(held, seed=5)
    evaluator = evaluators.make(task, CLASSES, torch.device("cpu"), with_matrix=False, previews=chosen)
    evaluator.add(torch.tensor(1.0), predictions, batch)
    return list(previews.images(held, chosen)), evaluator.result(Fabric(accelerator="cpu", devices=1)), chosen


@given(st.lists(st.frozensets(st.integers(0, 5), max_size=3), max_size=60))
def test_the_images_are_spread_over_the_classes(shown: list[frozenset[int]]) -> None:
    chosen = previews.spread(list(enumerate(shown)))
    assert len(chosen) == len(set(chosen)) == min(len(shown), previews.MOST_IMAGES)
    every = {one for classes in shown for one in classes or {-1}}
    covered = {one for index in chosen for one in shown[index] or {-1}}
    # At most seven kinds, so that sixteen images show them all.
    assert covered == every


def test_the_images_are_the_same_for_the_same_seed() -> None:
    held = batches.data(CASES["classification"][1][0], CLASSES)
    assert previews.choose(held, seed=1) == previews.choose(held, seed=1) != previews.choose(held, seed=2)
    labels = held.source.batches([previews.choose(held, seed=1)])
    counts = Counter(next(labels).targets.tolist())  # type: ignore[union-attr]
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("case", CASES)
def test_an_image_is_told_small_with_its_size_and_path_and_its_truth_as_data(case: str) -> None:
    images, _, chosen = previewed(case)
    batch, _ = CASES[case][1]
    assert [one.number for one in images] == list(range(16))
    for image, index in zip(images, chosen, strict=True):
        assert (image.width, image.height) == tuple(batch.sizes[index].tolist())
        assert image.path == f"images/{index}.png"
        picture = Image.open(io.BytesIO(image.jpeg))
        assert max(picture.size) <= 640
        assert picture.width / picture.height == pytest.approx(image.width / image.height, rel=0.01)
        truth, targets = image.truth, batch.targets[index]
        if case == "classification":
            assert [(one.class_index, one.confidence) for one in truth.labels] == [(int(targets), 1)]  # type: ignore[arg-type]
        elif case == "detection":
            assert [one.class_index for one in truth.boxes] == targets.labels.tolist()  # type: ignore[union-attr]
            told = [[one.left, one.top, one.right, one.bottom] for one in truth.boxes]
            assert np.allclose(np.array(told).reshape(-1, 4), targets.boxes.numpy(), atol=1e-5)  # type: ignore[union-attr]
        else:
            shown = decoded(truth.label_map)
            assert shown.shape == (picture.height, picture.width)
            middle = shown[:: max(1, shown.shape[0] // 16), :: max(1, shown.shape[1] // 16)]
            assert set(np.unique(middle)) <= {0, 1, 2, NOT_LABELLED}
            assert set(np.unique(shown)) == set(torch.unique(targets).tolist())


@pytest.mark.parametrize("case", CASES)
def test_what_is_predicted_of_the_images_is_told_at_each_evaluation(case: str) -> None:
    _, found, chosen = previewed(case)
    batch, predictions = CASES[case][1]
    assert [one.number for one in found.predictions] == list(range(16))
    for told, index in zip(found.predictions, chosen, strict=True):
        expected = predictions[index]
        if case == "classification":
            confidences = [one.confidence for one in told.annotation.labels]
            assert [one.class_index for one in told.annotation.labels] == expected.argsort(descending=True).tolist()  # type: ignore[union-attr]
            assert confidences == sorted(confidences, reverse=True)
            assert sum(confidences) == pytest.approx(1, abs=1e-3)
        elif case == "detection":
            sure = expected.scores >= 0.05  # type: ignore[union-attr]
            assert [one.class_index for one in told.annotation.boxes] == expected.labels[sure].tolist()  # type: ignore[union-attr]
        else:
            shown = decoded(told.annotation.label_map)
            width, height = annotations.small(*batch.sizes[index].tolist())
            assert shown.shape == (height, width)


def test_a_label_map_of_noise_is_told_coarser_and_every_pixel_of_it_is_the_nearest_ones() -> None:
    noise = np.random.default_rng(0).integers(0, 9, (512, 512)).astype(np.uint8)
    told = annotations.label_map(noise, 640, 480)
    assert len(told.classes) <= annotations.MOST_RUNS
    assert sum(told.lengths) == told.width * told.height
    assert (told.width, told.height) == (640 >> 3, 480 >> 3)
    # The pixel in the middle of each block.
    assert decoded(told)[0, 0] == noise[512 // 120, 512 // 160]
    flat = annotations.label_map(np.full((32, 32), 7, np.uint8), 640, 480)
    assert (list(flat.classes), list(flat.lengths)) == ([7], [640 * 480])


def test_only_the_hundred_surest_boxes_with_some_confidence_are_told() -> None:
    batch, _ = batches.detection(1, 1, 3)
    scores = torch.linspace(0.9, 0.0, 300)
    boxes = torch.tensor([[0.1, 0.1, 0.3, 0.3]]).repeat(300, 1)
    found = (Detections(boxes, torch.zeros(300).long(), scores),)
    told = annotations.prediction(found, batch, 0).boxes
    assert len(told) == 100
    assert [one.confidence for one in told] == pytest.approx(scores[:100].tolist(), abs=1e-4)
    few = (Detections(boxes[:3], torch.zeros(3).long(), torch.tensor([0.5, 0.04, float("nan")])),)
    assert len(annotations.prediction(few, batch, 0).boxes) == 1


def reporter(folder: Path, lost: list[Loss]) -> Reporter:
    spool = Spool(folder / "trainer.jsonl", lambda: 1, lost.append, lambda: 1)
    return Reporter(Control(os.open(os.devnull, os.O_WRONLY)), spool, lambda: 1, lambda: 1)


def records(folder: Path) -> list[ingest_pb2.Record]:
    lines = (folder / "trainer.jsonl").read_text().splitlines()
    return [json_format.Parse(line, ingest_pb2.Record()) for line in lines]


@pytest.mark.parametrize("case", CASES)
def test_everything_arrives_in_the_spool_as_it_was_told(tmp_path: Path, case: str) -> None:
    images, found, _ = previewed(case)
    lost: list[Loss] = []
    told = reporter(tmp_path, lost)
    facts = ingest_pb2.TrainingFacts(classes=CLASSES, train_support=[1, 2, 3], task=CASES[case][0])
    told.facts(facts)
    told.preview_images(images)
    told.evaluation(7, 1, found)
    told.finish()
    arrived = records(tmp_path)
    assert arrived[0].facts == facts
    assert [one.preview_image for one in arrived[1:17]] == images
    assert [one.WhichOneof("record") for one in arrived[17:]] == ["points", "evaluation"]
    evaluation = arrived[-1].evaluation
    assert list(evaluation.predictions) == list(found.predictions)
    assert dict(evaluation.metrics) == found.metrics
    assert [(one.name, dict(one.metrics), one.support) for one in evaluation.classes] == [
        (one.name, one.metrics, one.support) for one in found.classes
    ]
    assert lost == []


def test_a_spool_without_room_drops_previews_first_and_keeps_the_evaluation(tmp_path: Path) -> None:
    images, found, _ = previewed("segmentation")
    size = sum(len(json_format.MessageToJson(image, indent=None)) for image in images)
    spool_budget.write_limit(tmp_path, size)
    lost: list[Loss] = []
    told = reporter(tmp_path, lost)
    told.preview_images(images)
    told.evaluation(7, 1, found)
    told.finish()
    arrived = [one.WhichOneof("record") for one in records(tmp_path)]
    kept = arrived.count("preview_image")
    assert 0 < kept < 16
    assert arrived[kept:] == ["points", "evaluation"]
    assert not records(tmp_path)[-1].evaluation.predictions
    assert [(one.kind, one.count, one.cause) for one in lost] == [("previews", 16 - kept + 16, "spool")]
    assert spool_budget.used_bytes(tmp_path) < size * 0.45
