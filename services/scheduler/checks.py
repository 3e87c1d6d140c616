"""The settings that people choose, checked before anything is decided on them."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from protos.scheduler.v1.job_pb2 import SubmitJobRequest
from protos.training.v1.training_pb2 import (
    Architecture,
    CheckpointPolicy,
    Dataset,
    DatasetFormat,
    Hyperparameters,
    InitialWeights,
    Limits,
    Optimizer,
    Precision,
    Schedule,
    Task,
    WeightsSource,
    Workflow,
)
from services.rpc.errors import InvalidField
from services.scheduler.domain.placement import AUTO_BATCH, with_defaults

_Range = tuple[float, float]

# Field → lowest and highest value that make sense; zero always means the default.
_HYPERPARAMETERS: dict[str, _Range] = {
    "batch_size": (1, 65_536),
    "image_size": (8, 4_096),
    "learning_rate": (1e-9, 100),
    "weight_decay": (0, 10),
    "validation_share": (0.01, 0.9),
    "accumulate_batches": (1, 1_024),
    "auto_batch_vram_share": (0.05, 0.95),
    "gradient_clip_norm": (1e-6, 1e6),
}
_STRATEGY: dict[str, _Range] = {
    "evaluation_interval_steps": (1, 10_000_000),
    "every_n_evaluations": (1, 10_000),
    "keep_best": (1, 100),
}
_LIMITS: dict[str, _Range] = {
    "epochs": (1, 100_000),
    "steps": (1, 1_000_000_000),
    "minutes": (1, 100_000),
    "early_stopping_patience": (1, 10_000),
    "retries": (1, 20),
    "stall_minutes": (1, 10_000),
}
# Zero: not that one.
_AUGMENTATIONS: dict[str, _Range] = {
    "horizontal_flip": (0, 1),
    "vertical_flip": (0, 1),
    "rotation_degrees": (0, 180),
    "crop_min_area": (0.01, 0.99),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "saturation": (0, 1),
    "hue": (0, 0.5),
    "blur": (0, 1),
    "erasing": (0, 1),
}
# Instead of a number: batch size auto, stall never, no clipping.
_SPECIAL: Mapping[str, int] = {"batch_size": AUTO_BATCH, "stall_minutes": -1, "gradient_clip_norm": -1}
_NEVER = -1
_TASK_OF = {
    DatasetFormat.DATASET_FORMAT_IMAGE_FOLDER: Task.TASK_CLASSIFICATION,
    DatasetFormat.DATASET_FORMAT_COCO: Task.TASK_DETECTION,
    DatasetFormat.DATASET_FORMAT_YOLO: Task.TASK_DETECTION,
    DatasetFormat.DATASET_FORMAT_MASK_FOLDER: Task.TASK_SEGMENTATION,
}
_MAX_WEIGHTS_NAME = 200


def check_settings(request: SubmitJobRequest) -> None:
    """The Training Settings. Raises InvalidField for the first one that makes no sense."""
    _check_ranges("checkpoint_strategy", request.checkpoint_strategy, _STRATEGY)
    check_limits(request.limits)
    _check_choice("checkpoint_strategy", "policy", request.checkpoint_strategy, CheckpointPolicy)


def check_workflow(
    workflow: Workflow, dataset: Dataset, architecture: Architecture, architectures: Mapping[str, Architecture]
) -> None:
    """What a training is made of, saved or not, as far as no other job needs to be looked at. Raises InvalidField."""
    _check_ranges("hyperparameters", workflow.hyperparameters, _HYPERPARAMETERS)
    _check_ranges("augmentations", workflow.augmentations, _AUGMENTATIONS, zero="to leave it out")
    _check_choice("hyperparameters", "optimizer", workflow.hyperparameters, Optimizer)
    _check_choice("hyperparameters", "schedule", workflow.hyperparameters, Schedule)
    _check_choice("hyperparameters", "precision", workflow.hyperparameters, Precision)
    _check_choice("weights", "source", workflow.weights, WeightsSource)
    _check_task(dataset, architecture, architectures)
    _check_weights(workflow.weights, architecture)
    _check_batch(with_defaults(workflow.hyperparameters, architecture))


def _check_choice(group: str, name: str, settings: Message, kind: Any) -> None:
    value = getattr(settings, name)
    if value not in kind.values():
        prefix = kind.keys()[0].removesuffix("UNSPECIFIED")
        names = ", ".join(one.removeprefix(prefix).lower() for one in kind.keys()[1:])
        raise InvalidField(f"{group}.{name}", value, f"it must be one of: {names}")


def check_limits(limits: Limits) -> None:
    """Raises InvalidField."""
    _check_ranges("limits", limits, _LIMITS)
    if limits.stop_when_stalled and limits.stall_minutes == _NEVER:
        rule = "it contradicts stall_minutes -1, with which no training counts as stalled; leave out one of the two"
        raise InvalidField("limits.stop_when_stalled", True, rule)


def _check_ranges(group: str, settings: Message, ranges: Mapping[str, _Range], zero: str = "for the default") -> None:
    for name, (lowest, highest) in ranges.items():
        value = getattr(settings, name)
        # `not (a <= b)` holds for NaN too.
        if value != 0 and value != _SPECIAL.get(name) and not lowest <= value <= highest:
            rule = f"it must be from {lowest:g} to {highest:g}, or 0 {zero}"
            raise InvalidField(f"{group}.{name}", f"{value:g}" if isinstance(value, float) else value, rule)


def _check_batch(hyper: Hyperparameters) -> None:
    """A batch has at least one image for each of its parts; `hyper` has its defaults filled in. Raises InvalidField."""
    # An automatic batch is below zero.
    if 0 < hyper.batch_size < hyper.accumulate_batches:
        rule = f"a batch of {hyper.batch_size} images cannot be computed in so many parts; choose a larger batch_size"
        raise InvalidField("hyperparameters.accumulate_batches", hyper.accumulate_batches, rule)


def _check_task(dataset: Dataset, chosen: Architecture, architectures: Mapping[str, Architecture]) -> None:
    """What the dataset shows is what the architecture learns. Raises InvalidField naming the architectures that fit."""
    format_ = dataset.format or DatasetFormat.DATASET_FORMAT_IMAGE_FOLDER
    task = _TASK_OF.get(format_, Task.TASK_UNSPECIFIED)
    if chosen.task == task:
        return
    fitting = [one.architecture_id for one in architectures.values() if one.task == task]
    ways = f"choose one of: {', '.join(fitting)}" if fitting else "the catalogue has no architecture for it"
    rule = (
        f"it learns {_words(Task, chosen.task, 'TASK_')}, and dataset {dataset.name} "
        f"({_words(DatasetFormat, format_, 'DATASET_FORMAT_')}) is for {_words(Task, task, 'TASK_')}; {ways}"
    )
    raise InvalidField("architecture_id", chosen.architecture_id, rule)


def _check_weights(weights: InitialWeights, architecture: Architecture) -> None:
    """Raises InvalidField."""
    for field, name in (("weights.name", weights.name), ("weights.checkpoint.name", weights.checkpoint.name)):
        if len(name) > _MAX_WEIGHTS_NAME or not name.isprintable():
            raise InvalidField(field, name, f"it has 1 to {_MAX_WEIGHTS_NAME} printable characters")
    pretrained = weights.source == WeightsSource.WEIGHTS_SOURCE_PRETRAINED
    if weights.name and not pretrained:
        raise InvalidField("weights.name", weights.name, "a name belongs to pretrained weights only; set their source")
    if pretrained and not (weights.name or architecture.pretrained):
        rule = (
            f"{architecture.architecture_id} has none in the catalogue; name weights that the box knows, or train it "
        )
        raise InvalidField("weights.source", "pretrained", rule + "from random weights")
    from_checkpoint = weights.source == WeightsSource.WEIGHTS_SOURCE_CHECKPOINT
    if weights.HasField("checkpoint") != from_checkpoint or (from_checkpoint and not weights.checkpoint.job_id):
        rule = "a checkpoint and its job are named where, and only where, the weights are to come from one"
        raise InvalidField("weights.checkpoint", weights.checkpoint.job_id or "none", rule)


def check_family(job_id: str, trained: Architecture, chosen: Architecture) -> None:
    """Weights fit architectures of their own family only. Raises InvalidField."""
    if trained.family != chosen.family:
        rule = (
            f"that job trained {trained.architecture_id} (family {trained.family}), whose weights do not fit "
            f"{chosen.architecture_id} (family {chosen.family}); choose a job or an architecture of the same family"
        )
        raise InvalidField("weights.checkpoint.job_id", job_id, rule)


def _words(kind: object, value: int, prefix: str) -> str:
    name: str = kind.Name(value)  # type: ignore[attr-defined]
    return name.removeprefix(prefix).replace("_", " ").lower()
