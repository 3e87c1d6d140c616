"""What a training does, with every default filled in. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from protos.training.v1 import training_pb2
from runner_agent.trainer.failures import ConfigurationFailure

# Used where neither the request nor the architecture says anything.
BUILT_IN = training_pb2.Hyperparameters(
    batch_size=64,
    image_size=224,
    learning_rate=1e-3,
    weight_decay=0.05,
    validation_share=0.2,
    seed=0,
    optimizer=training_pb2.OPTIMIZER_ADAMW,
    schedule=training_pb2.SCHEDULE_ONE_CYCLE,
    accumulate_batches=1,
    # Leaves room for what other programs and an unlucky batch take; ultralytics' auto-batch aims at the same share.
    auto_batch_vram_share=0.6,
    # Cuts off what a single odd batch does; far above the norm of a training that goes well.
    gradient_clip_norm=5.0,
)
BUILT_IN_EPOCHS = 10
MAX_IMAGE_SIZE = 4096
AUTO_BATCH = -1

_TASKS = {
    training_pb2.TASK_CLASSIFICATION: "classification",
    training_pb2.TASK_DETECTION: "detection",
    training_pb2.TASK_SEGMENTATION: "segmentation",
}
# Format → its name for people, and what can be trained on it.
_FORMATS = {
    training_pb2.DATASET_FORMAT_IMAGE_FOLDER: ("image-folder", training_pb2.TASK_CLASSIFICATION),
    training_pb2.DATASET_FORMAT_COCO: ("coco", training_pb2.TASK_DETECTION),
    training_pb2.DATASET_FORMAT_YOLO: ("yolo", training_pb2.TASK_DETECTION),
    training_pb2.DATASET_FORMAT_MASK_FOLDER: ("mask-folder", training_pb2.TASK_SEGMENTATION),
}
# Smallest and largest value of each augmentation; zero leaves it out.
_AUGMENTATIONS: Mapping[str, tuple[float, float]] = {
    "horizontal_flip": (0, 1),
    "vertical_flip": (0, 1),
    "rotation_degrees": (0, 180),
    # A sliver shows nothing, and all of the image is no crop.
    "crop_min_area": (0.01, 0.99),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "saturation": (0, 1),
    "hue": (0, 0.5),
    "blur": (0, 1),
    "erasing": (0, 1),
}


@dataclass(frozen=True)
class Settings:
    """Checked settings; see `tether.training.v1.TrainingSpec` for their meaning and units."""

    location: str
    dataset_name: str
    dataset_format: int
    task: "training_pb2.Task.ValueType"
    family: str
    architecture_id: str
    config_json: str
    # AUTO_BATCH until `with_batch_size`.
    batch_size: int
    # Of the architecture: what its learning rate was chosen for.
    usual_batch_size: int
    accumulate_batches: int
    auto_batch_vram_share: float
    image_size: int
    learning_rate: float
    # True where the request names it.
    learning_rate_asked: bool
    weight_decay: float
    optimizer: int
    schedule: int
    # Unspecified: what the GPUs are good at.
    precision: int
    # Zero: never.
    gradient_clip_norm: float
    augmentations: training_pb2.Augmentations
    validation_share: float
    seed: int
    # Zero: once an epoch.
    evaluation_interval_steps: int
    policy: int
    every_n_evaluations: int
    keep_best: int
    confusion_matrix: bool
    previews: bool
    # Zero: no limit of that kind.
    epochs: int
    steps: int
    minutes: int
    patience: int

    def with_batch_size(self, batch_size: int) -> "Settings":
        """With what was found for `auto`. The architecture's learning rate follows it; a requested one stays.

        SGD's by the batch's size (https://arxiv.org/abs/1706.02677), AdamW's by its square root
        (https://arxiv.org/abs/2205.10287), at most fourfold either way: beyond, neither rule holds.
        """
        learning_rate = self.learning_rate
        if not self.learning_rate_asked:
            ratio = batch_size / self.usual_batch_size
            factor = ratio if self.optimizer == training_pb2.OPTIMIZER_SGD else math.sqrt(ratio)
            learning_rate *= min(max(factor, 0.25), 4.0)
        return replace(self, batch_size=batch_size, learning_rate=learning_rate)


def resolve(spec: training_pb2.TrainingSpec) -> Settings:
    """Settings of a request. Raises ConfigurationFailure for a value that cannot be used."""
    chosen, usual = training_pb2.Hyperparameters(), training_pb2.Hyperparameters()
    # Merging copies what is not zero, which is the rule for defaults.
    for layer in (BUILT_IN, spec.architecture.defaults):
        usual.MergeFrom(layer)
    for layer in (usual, spec.hyperparameters):
        chosen.MergeFrom(layer)
    own = spec.HasField("augmentations")
    augmentations = spec.augmentations if own else spec.architecture.default_augmentations
    _check_task(spec)
    _check_hyperparameters(chosen)
    _check_augmentations(augmentations)
    strategy, limits = spec.checkpoint_strategy, spec.limits
    for name, number in (
        ("evaluation_interval_steps", strategy.evaluation_interval_steps),
        ("every_n_evaluations", strategy.every_n_evaluations),
        ("keep_best", strategy.keep_best),
        ("epochs", limits.epochs),
        ("steps", limits.steps),
        ("minutes", limits.minutes),
        ("early_stopping_patience", limits.early_stopping_patience),
    ):
        _require(number >= 0, f"{name} is {number}; choose 0 (the default) or more")
    limited = limits.epochs or limits.steps or limits.minutes
    return Settings(
        location=spec.dataset.location,
        dataset_name=spec.dataset.name,
        dataset_format=spec.dataset.format,
        task=spec.architecture.task,
        family=spec.architecture.family,
        architecture_id=spec.architecture.architecture_id,
        config_json=spec.architecture.config_json,
        batch_size=chosen.batch_size,
        usual_batch_size=usual.batch_size if usual.batch_size > 0 else BUILT_IN.batch_size,
        accumulate_batches=chosen.accumulate_batches,
        auto_batch_vram_share=chosen.auto_batch_vram_share,
        image_size=chosen.image_size,
        learning_rate=chosen.learning_rate,
        learning_rate_asked=spec.hyperparameters.learning_rate != 0,
        weight_decay=chosen.weight_decay,
        optimizer=chosen.optimizer,
        schedule=chosen.schedule,
        precision=chosen.precision,
        gradient_clip_norm=max(chosen.gradient_clip_norm, 0.0),
        augmentations=augmentations,
        validation_share=chosen.validation_share,
        seed=chosen.seed,
        evaluation_interval_steps=strategy.evaluation_interval_steps,
        policy=strategy.policy or training_pb2.CHECKPOINT_POLICY_BEST_METRIC,
        every_n_evaluations=strategy.every_n_evaluations or 1,
        keep_best=strategy.keep_best or 1,
        confusion_matrix=spec.advanced_evaluation.enabled or spec.advanced_evaluation.confusion_matrix,
        previews=spec.advanced_evaluation.enabled,
        epochs=limits.epochs if limited else BUILT_IN_EPOCHS,
        steps=limits.steps,
        minutes=limits.minutes,
        patience=limits.early_stopping_patience,
    )


def _check_task(spec: training_pb2.TrainingSpec) -> None:
    task, dataset_format = spec.architecture.task, spec.dataset.format
    _require(task in _TASKS, f"the architecture's task {task} is unknown to this runner; update it")
    _require(
        dataset_format in _FORMATS,
        f"the dataset's format {dataset_format} is unknown to this runner; update it, or register the dataset again",
    )
    name, fits = _FORMATS[dataset_format]
    _require(
        task == fits,
        f"the dataset's format is {name}, which is for {_TASKS[fits]}, but {spec.architecture.architecture_id} is for "
        f"{_TASKS.get(task, '')}; choose an architecture for {_TASKS[fits]}, or another dataset",
    )


def _check_hyperparameters(chosen: training_pb2.Hyperparameters) -> None:
    _require(
        chosen.batch_size >= 1 or chosen.batch_size == AUTO_BATCH,
        f"batch_size is {chosen.batch_size}; choose 1 or more, or {AUTO_BATCH} for auto",
    )
    parts = chosen.accumulate_batches
    _require(parts >= 1, f"accumulate_batches is {parts}; choose 1 or more")
    _require(
        chosen.batch_size == AUTO_BATCH or parts <= chosen.batch_size,
        f"accumulate_batches is {parts}, more than the {chosen.batch_size} images of a batch; choose fewer",
    )
    _require(
        8 <= chosen.image_size <= MAX_IMAGE_SIZE,
        f"image_size is {chosen.image_size} pixels; choose 8 to {MAX_IMAGE_SIZE}",
    )
    for name in ("learning_rate", "weight_decay"):
        value = getattr(chosen, name)
        _require(math.isfinite(value) and 0 <= value <= 10, f"{name} is {value:g}; choose a number from 0 to 10")
    for name in ("validation_share", "auto_batch_vram_share"):
        value = getattr(chosen, name)
        _require(0 < value < 1, f"{name} is {value:g}; choose a share above 0 and below 1")
    norm = chosen.gradient_clip_norm
    _require(math.isfinite(norm), f"gradient_clip_norm is {norm:g}; choose a number above 0, or -1 for never")
    for name, kinds in (
        ("optimizer", training_pb2.Optimizer),
        ("schedule", training_pb2.Schedule),
        ("precision", training_pb2.Precision),
    ):
        value = getattr(chosen, name)
        _require(value in kinds.values(), f"{name} {value} is unknown to this runner; choose another, or update it")


def _check_augmentations(augmentations: training_pb2.Augmentations) -> None:
    for name, (least, most) in _AUGMENTATIONS.items():
        value = getattr(augmentations, name)
        rule = f"choose a number from {least:g} to {most:g}" + (", or 0 to leave it out" if least else "")
        _require(value == 0 or least <= value <= most, f"augmentation {name} is {value:g}; {rule}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationFailure(message)
