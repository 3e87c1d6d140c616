"""Real trainings of all three tasks: what they tell of an evaluation is what their checkpoint predicts."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import json_format
from PIL import Image
from safetensors.torch import load_file
from sklearn import metrics as reference

from protos.metrics.v1 import ingest_pb2
from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.trainer import devices
from runner_agent.trainer.batch import Batch, Predictions
from runner_agent.trainer.datasets import loading
from runner_agent.trainer.models import registry
from runner_agent.trainer.pixels import normalise
from runner_agent.trainer.settings import resolve
from services.metrics.history import Curve, History
from services.metrics.recommendations import recommendations
from tests.support import batches, coco_reference, tasks
from tests.support.trained import Trained


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.use_one_thread()


def records(trained: Trained) -> list[ingest_pb2.Record]:
    lines = (trained.directory / "spool" / "trainer.jsonl").read_text().splitlines()
    return [json_format.Parse(line, ingest_pb2.Record()) for line in lines]


def evaluations(told: Sequence[ingest_pb2.Record]) -> list[ingest_pb2.Evaluation]:
    return [one.evaluation for one in told if one.HasField("evaluation")]


def predicted(given: session_pb2.Assignment, checkpoint: str) -> tuple[loading.Data, list[tuple[Batch, Predictions]]]:
    """The validation images in one batch each, with what the checkpoint says of them."""
    settings = resolve(given.spec)
    data = loading.load(
        settings.location,
        settings.image_size,
        settings.validation_share,
        settings.seed,
        lambda: False,
        format_=settings.dataset_format,
    )
    model = registry.build(settings.family, settings.config_json, len(data.classes), settings.image_size)
    tensors = {
        name.removeprefix("model."): tensor
        for name, tensor in load_file(checkpoint).items()
        if name.startswith("model.")
    }
    model.load_state_dict(tensors)
    model.eval()
    with torch.no_grad():
        found = [
            (batch, model.decode(model.outputs(normalise(batch.pixels))))
            for batch in data.source.batches([[index] for index in data.validation])
        ]
    return data, found


def expected(task: int, classes: int, found: list[tuple[Batch, Predictions]]) -> dict[str, float]:
    """The metrics without the loss, computed anew by others."""
    if task == training_pb2.TASK_DETECTION:
        images = [one for batch, predictions in found for one in coco_reference.images(batch, predictions)]
        return coco_reference.metrics(images, classes)
    truth = batches.joined(batch.targets for batch, _ in found).numpy().ravel()
    if task == training_pb2.TASK_CLASSIFICATION:
        said = batches.joined(scores for _, scores in found).argmax(1).numpy()
        macro = reference.precision_recall_fscore_support(truth, said, average="macro", zero_division=0)
        values = (reference.accuracy_score(truth, said), *macro[:3])
        return dict(zip(("accuracy", "precision", "recall", "f1"), values, strict=True))
    said = batches.joined(one for _, one in found).numpy().ravel()
    said, truth = said[truth != 255], truth[truth != 255]
    ious = reference.jaccard_score(truth, said, average=None, labels=np.union1d(truth, said), zero_division=0)
    return {"miou": ious.mean(), "pixel_accuracy": (said == truth).mean()}


@pytest.mark.parametrize("architecture_id", tasks.ALL)
def test_every_metric_that_is_told_is_what_the_checkpoint_predicts(tmp_path: Path, architecture_id: str) -> None:
    whole = tasks.write(architecture_id, tmp_path / "whole")
    given = tasks.training(architecture_id, tasks.first(architecture_id, whole, tmp_path / "data", 40), steps=4)
    given.spec.hyperparameters.CopyFrom(training_pb2.Hyperparameters(batch_size=8, validation_share=0.4))
    given.spec.advanced_evaluation.enabled = True
    trained = Trained(tmp_path, "at_1", given)
    assert trained.ended["outcome"] == "FINISHED", trained.ended
    task = given.spec.architecture.task
    told = records(trained)
    data, found = predicted(given, trained.checkpoint(4)["path"])

    evaluation = evaluations(told)[-1]
    metrics = {name.removeprefix("validation/"): value for name, value in evaluation.metrics.items()}
    assert metrics.pop("loss") > 0
    again = {name.removeprefix("validation/"): one for name, one in expected(task, len(data.classes), found).items()}
    # Batches of another size round otherwise, which may turn a pixel or the order of two boxes.
    assert metrics == pytest.approx(again, abs=2e-3)
    assert trained.of("evaluation")[-1]["metrics"] == pytest.approx(dict(evaluation.metrics))
    assert [one.name for one in evaluation.classes] == list(data.classes)
    matrix = evaluation.confusion_matrix
    assert matrix.background == (task != training_pb2.TASK_CLASSIFICATION)
    assert sum(matrix.counts) > 0

    facts = told[0].facts
    assert (list(facts.classes), list(facts.train_support)) == (list(data.classes), list(data.train_support))
    assert facts.train_images == len(data.train)
    assert (facts.vram_bytes, facts.batch_size, facts.task) == (0, 8, task)
    images = [one.preview_image for one in told if one.HasField("preview_image")]
    assert len(images) == min(16, len(data.validation))
    assert len({image.path for image in images}) == len(images)
    for image in images:
        with Image.open(tmp_path / "data" / image.path) as in_dataset:
            assert in_dataset.size == (image.width, image.height)
        assert Image.open(io.BytesIO(image.jpeg)).size == (image.width, image.height)
    for one in evaluations(told):
        assert [prediction.number for prediction in one.predictions] == [image.number for image in images]


@pytest.mark.parametrize("epochs", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_real_training_that_goes_well_gets_no_advice(tmp_path: Path, epochs: int) -> None:
    given = tasks.training(tasks.CLASSIFICATION, tasks.write(tasks.CLASSIFICATION, tmp_path / "data"))
    given.spec.advanced_evaluation.enabled = True
    given.spec.limits.epochs = epochs
    trained = Trained(tmp_path, "at_1", given)
    told = records(trained)
    found = evaluations(told)
    assert len(found) == epochs
    assert found[-1].metrics["validation/accuracy"] > 0.9
    losses = [(one.points.step, one.points.values["train/loss"]) for one in told if "train/loss" in one.points.values]
    curve = Curve.of(*zip(*losses, strict=True))
    for length in range(1, epochs + 1):
        so_far = curve.steps <= found[length - 1].step
        seen = Curve.of(curve.steps[so_far], curve.values[so_far])
        assert recommendations(History(told[0].facts, found[:length], {"train/loss": seen})) == []
    assert json.loads(json_format.MessageToJson(told[0]))["facts"]["classes"][0] == "0"
