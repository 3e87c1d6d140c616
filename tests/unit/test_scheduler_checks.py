"""What may be asked of a training: each setting has its range, and what contradicts itself is refused in words."""

import math
from typing import Any

import pytest
from google.protobuf.message import Message

from protos.events.v1.job_pb2 import JobSubmitted
from protos.scheduler.v1.job_pb2 import SubmitJobRequest
from protos.training.v1.training_pb2 import (
    AdvancedEvaluation,
    Architecture,
    Augmentations,
    CheckpointReference,
    Dataset,
    DatasetFormat,
    Hyperparameters,
    InitialWeights,
    Optimizer,
    Precision,
    Schedule,
    Task,
    TrainingSpec,
    WeightsSource,
    Workflow,
)
from services.rpc.errors import InvalidField
from services.scheduler.catalogue import ARCHITECTURES, read_architectures
from services.scheduler.checks import check_family, check_workflow
from services.scheduler.dataset_rpcs import _checked_location
from services.scheduler.domain.placement import resolved
from services.scheduler.domain.workspace import Workspace
from services.scheduler.making import made_of
from services.scheduler.submission import submitted
from tests.support.given import T0

NET = Architecture(
    architecture_id="net",
    task=Task.TASK_CLASSIFICATION,
    family="resnet",
    default_epochs=3,
    defaults=Hyperparameters(batch_size=32, learning_rate=0.1),
    default_augmentations=Augmentations(horizontal_flip=0.5),
)
BOXES = Architecture(architecture_id="boxes", task=Task.TASK_DETECTION, family="detr", default_epochs=3)
CATALOGUE = {one.architecture_id: one for one in (NET, BOXES)}
WORKSPACE = Workspace("ws_1", 1, "a workspace")
DIGITS = Dataset(name="digits", format=DatasetFormat.DATASET_FORMAT_IMAGE_FOLDER)


def submit(architecture: Architecture = NET, dataset: Dataset = DIGITS, **more: Any) -> JobSubmitted:
    request = SubmitJobRequest(**more)
    return submitted(request, made_of(request, WORKSPACE), dataset, architecture, CATALOGUE, None, None, T0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Hyperparameters(batch_size=-2), "hyperparameters.batch_size is '-2', but it must be from 1 to 65536"),
        (Hyperparameters(accumulate_batches=1025), "hyperparameters.accumulate_batches is '1025'"),
        (Hyperparameters(auto_batch_vram_share=0.99), "auto_batch_vram_share is '0.99', but it must be from 0.05"),
        (Hyperparameters(gradient_clip_norm=-2), "gradient_clip_norm is '-2'"),
        (Hyperparameters(learning_rate=math.nan), "learning_rate is 'nan'"),
        (Hyperparameters(optimizer=9), "optimizer is '9', but it must be one of: adamw, sgd"),  # type: ignore[arg-type]
        (Hyperparameters(schedule=9), "one of: one_cycle, cosine, linear, constant"),  # type: ignore[arg-type]
        (Hyperparameters(precision=9), "one of: float32, bfloat16, float16"),  # type: ignore[arg-type]
        (Augmentations(horizontal_flip=1.1), "horizontal_flip is '1.1', but it must be from 0 to 1, or 0 to leave it"),
        (Augmentations(rotation_degrees=181), "augmentations.rotation_degrees is '181'"),
        (Augmentations(crop_min_area=1), "augmentations.crop_min_area is '1'"),
        (Augmentations(hue=0.6), "augmentations.hue is '0.6', but it must be from 0 to 0.5"),
        (Augmentations(blur=-0.1), "augmentations.blur is '-0.1'"),
        (InitialWeights(source=9), "one of: pretrained, random, checkpoint"),  # type: ignore[arg-type]
    ],
)
def test_a_setting_out_of_its_range_is_refused_with_its_range(settings: Message, sentence: str) -> None:
    group = {Hyperparameters: "hyperparameters", Augmentations: "augmentations", InitialWeights: "weights"}
    with pytest.raises(InvalidField) as refused:
        submit(NET, DIGITS, **{group[type(settings)]: settings})
    assert sentence in str(refused.value)


def test_the_edges_of_the_ranges_and_the_special_values_are_accepted() -> None:
    edges = Augmentations(horizontal_flip=1, rotation_degrees=180, crop_min_area=0.99, hue=0.5, erasing=1)
    hyper = Hyperparameters(batch_size=-1, gradient_clip_norm=-1, auto_batch_vram_share=0.95)
    submit(hyperparameters=hyper, augmentations=edges, advanced_evaluation=AdvancedEvaluation(enabled=True))


def test_every_default_is_written_into_the_event() -> None:
    spec = submit().spec
    hyper = spec.hyperparameters
    assert (hyper.batch_size, hyper.learning_rate) == (32, 0.1), "the architecture's"
    assert (hyper.optimizer, hyper.schedule) == (Optimizer.OPTIMIZER_ADAMW, Schedule.SCHEDULE_ONE_CYCLE)
    assert (hyper.precision, hyper.accumulate_batches) == (Precision.PRECISION_FLOAT32, 1)
    assert hyper.gradient_clip_norm == -1
    assert not hyper.auto_batch_vram_share, "it belongs to a batch size of auto"
    assert spec.augmentations == NET.default_augmentations
    assert spec.limits.epochs == 3


def test_no_augmentations_at_all_are_a_choice_and_not_the_default() -> None:
    spec = submit(augmentations=Augmentations()).spec
    assert spec.HasField("augmentations")
    assert spec.augmentations == Augmentations()


def test_an_automatic_batch_gets_its_share_of_the_memory() -> None:
    hyper = submit(hyperparameters=Hyperparameters(batch_size=-1)).spec.hyperparameters
    assert (hyper.batch_size, hyper.auto_batch_vram_share) == (-1, 0.6)
    own = TrainingSpec(hyperparameters=Hyperparameters(batch_size=-1, auto_batch_vram_share=0.9))
    assert resolved(own).hyperparameters.auto_batch_vram_share == 0.9


def test_a_batch_has_an_image_for_each_of_its_parts() -> None:
    with pytest.raises(InvalidField, match="a batch of 32 images cannot be computed in so many parts"):
        submit(hyperparameters=Hyperparameters(accumulate_batches=33))
    submit(hyperparameters=Hyperparameters(accumulate_batches=33, batch_size=-1))


@pytest.mark.parametrize(
    ("format_", "architecture", "sentence"),
    [
        ("COCO", NET, "dataset digits (coco) is for detection; choose one of: boxes"),
        ("YOLO", NET, "it learns classification, and dataset digits (yolo) is for detection"),
        ("IMAGE_FOLDER", BOXES, "is for classification; choose one of: net"),
        ("MASK_FOLDER", BOXES, "is for segmentation; the catalogue has no architecture for it"),
    ],
)
def test_a_dataset_of_another_task_is_refused_naming_what_fits(
    format_: str, architecture: Architecture, sentence: str
) -> None:
    dataset = Dataset(name="digits", format=DatasetFormat.Value(f"DATASET_FORMAT_{format_}"))
    with pytest.raises(InvalidField) as refused:
        submit(architecture, dataset)
    assert sentence in str(refused.value)


def test_each_task_takes_its_own_formats() -> None:
    for format_ in ("COCO", "YOLO"):
        submit(BOXES, Dataset(name="d", format=DatasetFormat.Value(f"DATASET_FORMAT_{format_}")))
    submit(NET, Dataset(name="registered by an earlier version"))


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (InitialWeights(name="x"), "a name belongs to pretrained weights only"),
        (InitialWeights(source=WeightsSource.WEIGHTS_SOURCE_PRETRAINED), "net has none in the catalogue"),
        (InitialWeights(source=WeightsSource.WEIGHTS_SOURCE_CHECKPOINT), "a checkpoint and its job are named where"),
        (InitialWeights(checkpoint=CheckpointReference(job_id="jb_1")), "a checkpoint and its job are named where"),
        (InitialWeights(source=WeightsSource.WEIGHTS_SOURCE_PRETRAINED, name="a\nb"), "1 to 200 printable characters"),
    ],
)
def test_weights_that_contradict_themselves_are_refused(weights: InitialWeights, sentence: str) -> None:
    with pytest.raises(InvalidField) as refused:
        submit(weights=weights)
    assert sentence in str(refused.value)


def test_weights_of_another_family_are_refused_with_both_names() -> None:
    check_family("jb_1", NET, NET)
    with pytest.raises(InvalidField, match=r"that job trained net \(family resnet\), .* boxes \(family detr\)"):
        check_family("jb_1", NET, BOXES)


def test_every_architecture_of_the_catalogue_can_be_submitted_with_its_own_defaults() -> None:
    architectures = read_architectures(ARCHITECTURES)
    formats = {1: "IMAGE_FOLDER", 2: "COCO", 3: "MASK_FOLDER"}
    for one in architectures.values():
        dataset = Dataset(name="d", format=DatasetFormat.Value(f"DATASET_FORMAT_{formats[one.task]}"))
        spec = submitted(SubmitJobRequest(), Workflow(), dataset, one, architectures, None, None, T0).spec
        own = Workflow(hyperparameters=spec.hyperparameters, augmentations=spec.augmentations)
        check_workflow(own, dataset, one, architectures)


@pytest.mark.parametrize("location", ["/data/digits", "s3://bucket/digits", "file:///data/digits", "/data/a b/ä"])
def test_a_dataset_lies_at_a_path_or_at_a_url(location: str) -> None:
    assert _checked_location(location) == location


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("digits", "it must be an absolute path on the box, for example /data/digits, or a URL"),
        ("/data/../etc", "it must not contain `..`"),
        ("s3://bucket/../other", "it must not contain `..`"),
        ("S3 bucket://x", "a URL has the form s3://bucket/folder"),
        ("s3://", "a URL has the form s3://bucket/folder"),
        ("/" + "x" * 5000, "a path has at most 4096 characters"),
    ],
)
def test_another_location_is_refused(location: str, sentence: str) -> None:
    with pytest.raises(InvalidField) as refused:
        _checked_location(location)
    assert sentence in str(refused.value)


def test_a_secret_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidField, match="secrets have no place in the log") as refused:
        _checked_location("https://me:hunter2@host/digits")
    assert "hunter2" not in str(refused.value)
