"""What a training does, with every default filled in. Pure."""

import math
from dataclasses import dataclass

from protos.training.v1 import training_pb2
from runner_agent.trainer.failures import ConfigurationFailure

# Used where neither the request nor the architecture says anything.
BUILT_IN = training_pb2.Hyperparameters(
    batch_size=64, image_size=224, learning_rate=1e-3, weight_decay=0.05, validation_share=0.2, seed=0
)
BUILT_IN_EPOCHS = 10
MAX_IMAGE_SIZE = 4096


@dataclass(frozen=True)
class Settings:
    """Checked settings; see `tether.training.v1.TrainingSpec` for their meaning and units."""

    location: str
    dataset_name: str
    family: str
    architecture_id: str
    config_json: str
    batch_size: int
    image_size: int
    learning_rate: float
    weight_decay: float
    validation_share: float
    seed: int
    # Zero: once an epoch.
    evaluation_interval_steps: int
    policy: int
    every_n_evaluations: int
    keep_best: int
    confusion_matrix: bool
    # Zero: no limit of that kind.
    epochs: int
    steps: int
    minutes: int
    patience: int


def resolve(spec: training_pb2.TrainingSpec) -> Settings:
    """Settings of a request. Raises ConfigurationFailure for a value that cannot be used."""
    chosen = training_pb2.Hyperparameters()
    # Merging copies what is not zero, which is the rule for defaults.
    for layer in (BUILT_IN, spec.architecture.defaults, spec.hyperparameters):
        chosen.MergeFrom(layer)
    strategy, limits = spec.checkpoint_strategy, spec.limits
    _require(
        spec.dataset.format == training_pb2.DATASET_FORMAT_IMAGE_FOLDER, "the dataset's format is not image_folder"
    )
    _require(spec.architecture.task == training_pb2.TASK_CLASSIFICATION, "the task is not classification")
    _require(chosen.batch_size >= 1, f"batch_size is {chosen.batch_size}; choose 1 or more")
    _require(
        8 <= chosen.image_size <= MAX_IMAGE_SIZE,
        f"image_size is {chosen.image_size} pixels; choose 8 to {MAX_IMAGE_SIZE}",
    )
    for name in ("learning_rate", "weight_decay"):
        value = getattr(chosen, name)
        _require(math.isfinite(value) and 0 <= value <= 10, f"{name} is {value:g}; choose a number from 0 to 10")
    share = chosen.validation_share
    _require(0 < share < 1, f"validation_share is {share:g}; choose a share above 0 and below 1")
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
        family=spec.architecture.family,
        architecture_id=spec.architecture.architecture_id,
        config_json=spec.architecture.config_json,
        batch_size=chosen.batch_size,
        image_size=chosen.image_size,
        learning_rate=chosen.learning_rate,
        weight_decay=chosen.weight_decay,
        validation_share=share,
        seed=chosen.seed,
        evaluation_interval_steps=strategy.evaluation_interval_steps,
        policy=strategy.policy or training_pb2.CHECKPOINT_POLICY_BEST_METRIC,
        every_n_evaluations=strategy.every_n_evaluations or 1,
        keep_best=strategy.keep_best or 1,
        confusion_matrix=spec.advanced_evaluation.enabled or spec.advanced_evaluation.confusion_matrix,
        epochs=limits.epochs if limited else BUILT_IN_EPOCHS,
        steps=limits.steps,
        minutes=limits.minutes,
        patience=limits.early_stopping_patience,
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationFailure(message)
