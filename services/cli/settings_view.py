"""What a training is made of, in words: of a job as it was submitted, of a workflow as it is saved."""

from collections.abc import Sequence
from typing import Any

from protos.training.v1.training_pb2 import (
    Hyperparameters,
    InitialWeights,
    Optimizer,
    Precision,
    Schedule,
    TrainingSpec,
    WeightsSource,
    Workflow,
)
from services.words import format as fmt

_ENUMS: dict[str, Any] = {"Optimizer": Optimizer, "Schedule": Schedule, "Precision": Precision}
# Hyperparameters of which zero is a value of a job; the others have a default instead.
_ZERO_MEANS_ZERO = ("weight_decay", "seed")


def hyperparameters(hyper: Hyperparameters, zeros: Sequence[str] = _ZERO_MEANS_ZERO) -> str:
    """`batch size auto, optimizer adamw`; what is zero and not among `zeros` was not said, and is left out."""
    words = []
    for field in hyper.DESCRIPTOR.fields:
        value = getattr(hyper, field.name)
        if field.enum_type is not None:
            shown = fmt.words(_ENUMS[field.enum_type.name], value, f"{field.name.upper()}_") if value else ""
        elif value == -1:
            shown = "auto" if field.name == "batch_size" else "never"
        else:
            shown = f"{value:g}" if value or field.name in zeros else ""
        if shown:
            words.append(f"{field.name.replace('_', ' ')} {shown}")
    return ", ".join(words)


def augmentations(of: TrainingSpec | Workflow) -> str:
    """`horizontal flip 0.5`, `none`; empty where nothing was said."""
    fields = of.augmentations.DESCRIPTOR.fields
    values = [(field.name.replace("_", " "), getattr(of.augmentations, field.name)) for field in fields]
    found = ", ".join(f"{name} {value:g}" for name, value in values if value)
    return found or ("none" if of.HasField("augmentations") else "")


def begins(spec: TrainingSpec) -> str:
    """What a job was to begin with; what came of it is told by its start."""
    earlier = spec.resume_from
    if earlier.job_id:
        return f"step {earlier.step} of job {earlier.job_id} ({earlier.checkpoint})"
    return weights(spec.weights)


def weights(asked: InitialWeights) -> str:
    """Empty where nothing was said."""
    if asked.source == WeightsSource.WEIGHTS_SOURCE_CHECKPOINT:
        return f"weights of {asked.checkpoint.name or 'the best checkpoint'} of job {asked.checkpoint.job_id}"
    if asked.source == WeightsSource.WEIGHTS_SOURCE_PRETRAINED:
        return f"pretrained weights {asked.name}".rstrip()
    return "random weights" if asked.source == WeightsSource.WEIGHTS_SOURCE_RANDOM else ""
