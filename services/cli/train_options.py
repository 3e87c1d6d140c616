"""Settings of a training as they are typed, and what they mean to the platform."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from protos.training.v1 import training_pb2 as pb
from services.cli.errors import CliError

AUTO_BATCH = -1
NEVER = -1
_NONE = "none"


class _Choice(StrEnum):
    """Values as they are typed, of the protos' enum that is called the same."""

    def to_proto(self) -> Any:
        kind = getattr(pb, type(self).__name__)
        return kind.Value(kind.keys()[0].removesuffix("UNSPECIFIED") + self.name)


class CheckpointPolicy(_Choice):
    """Which checkpoints are kept."""

    BEST_METRIC = "best-metric"
    LOWEST_VALIDATION_LOSS = "lowest-validation-loss"
    LATEST = "latest"
    EVERY_N_EVALUATIONS = "every-n-evaluations"


class Optimizer(_Choice):
    """What makes a step of the gradients."""

    ADAMW = "adamw"
    SGD = "sgd"


class Schedule(_Choice):
    """The learning rate over a training."""

    ONE_CYCLE = "one-cycle"
    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


class Precision(_Choice):
    """Of the numbers that a GPU computes with."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def stall_minutes(text: str) -> int:
    """Raises CliError."""
    if text == "never":
        return NEVER
    if not _whole(text) or not 0 < int(text[:9]) < 10_001:
        raise CliError(f"--stall-minutes is {text!r}; give whole minutes from 1 to 10000, or never")
    return int(text)


def batch_size(text: str) -> int:
    """Zero where nothing was given. Raises CliError."""
    if text == "auto":
        return AUTO_BATCH
    if text and (not _whole(text) or not 0 < int(text[:9]) < 65_537):
        raise CliError(f"--batch-size is {text!r}; give a number of images from 1 to 65536, or auto")
    return int(text or 0)


def gradient_clip(text: str) -> float:
    """Zero where nothing was given. Raises CliError."""
    if text == "never":
        return NEVER
    try:
        norm = float(text or 0)
    except ValueError:
        norm = -1
    if not 0 <= norm < float("inf"):
        raise CliError(f"--gradient-clip is {text!r}; give a norm, for example 1.0, or never")
    return norm


def augmentations(given: Sequence[str], own: Callable[[], pb.Augmentations]) -> pb.Augmentations | None:
    """Each `key=value` changes one of the architecture's own; `none` leaves them all out first. None: nothing is given.

    Raises CliError.
    """
    if not given:
        return None
    chosen = pb.Augmentations()
    if _NONE not in given:
        chosen.CopyFrom(own())
    keys = {field.name.replace("_", "-"): field.name for field in chosen.DESCRIPTOR.fields}
    for text in given:
        if text == _NONE:
            continue
        key, _, value = text.partition("=")
        try:
            setattr(chosen, keys[key], float(value))
        except KeyError:
            raise CliError(f"--augment is {text!r}; give key=value with one of: {', '.join(keys)}, or none") from None
        except ValueError:
            raise CliError(f"--augment is {text!r}; give a number, for example --augment {key}=0.2") from None
    return chosen


def weights(named: str, checkpoint: str, job_id: Callable[[str], str]) -> pb.InitialWeights | None:
    """`pretrained`, `random` or a name that the box knows; or a checkpoint, `JOB` or `JOB/NAME`. Raises CliError."""
    if named and checkpoint:
        raise CliError("--weights and --from-checkpoint both say what the model begins with; give one of them")
    if checkpoint:
        job, _, name = checkpoint.partition("/")
        source = pb.WeightsSource.WEIGHTS_SOURCE_CHECKPOINT
        return pb.InitialWeights(source=source, checkpoint=pb.CheckpointReference(job_id=job_id(job), name=name))
    if named == "random":
        return pb.InitialWeights(source=pb.WeightsSource.WEIGHTS_SOURCE_RANDOM)
    if named:
        name = "" if named == "pretrained" else named
        return pb.InitialWeights(source=pb.WeightsSource.WEIGHTS_SOURCE_PRETRAINED, name=name)
    return None


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit()
