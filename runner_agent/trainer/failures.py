"""Why a training failed, so that nobody is blamed for another's fault."""

import re

import torch

from runner_agent import memory_kills

DATASET = "END_REASON_DATASET"
CONFIGURATION = "END_REASON_CONFIGURATION"
OUT_OF_MEMORY = "END_REASON_OUT_OF_MEMORY"
INFRASTRUCTURE = "END_REASON_INFRASTRUCTURE"

# What torch says, as plain RuntimeErrors, about the device, its driver, its libraries and its interconnect.
_DEVICE = re.compile(r"cuda|cudnn|cublas|nccl|nvml|nvidia|driver|no kernel image|dataloader worker", re.IGNORECASE)
_DISK = re.compile(
    r"no space left on device|input/output error|read-only file system|disk quota exceeded|bus error", re.IGNORECASE
)
_KILLED = re.compile(r"killed by signal: Killed", re.IGNORECASE)
_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|ALLOC_FAILED", re.IGNORECASE)


class TrainingFailure(Exception):
    """A training that cannot go on, for a reason that is understood. `message` is one sentence with the way out."""

    reason = CONFIGURATION

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigurationFailure(TrainingFailure):
    """A setting of the request cannot be used."""


class DatasetFailure(TrainingFailure):
    """The dataset cannot be trained on."""

    reason = DATASET


class InfrastructureFailure(TrainingFailure):
    """The box lets the training down."""

    reason = INFRASTRUCTURE


class OutOfMemoryFailure(TrainingFailure):
    """The model does not fit."""

    reason = OUT_OF_MEMORY


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, or a library below it, says that it got no memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or _MEMORY.search(str(error)) is not None


def explain(
    error: BaseException, *, batch_size: int = 0, image_size: int = 0, memory_killed: bool = False
) -> tuple[str, str]:
    """The end reason and one sentence for any exception that ended a training.

    `batch_size` and `image_size` are what was set, 0 where that is not known; `memory_killed` says that the kernel has
    killed for lack of memory since the training began.
    """
    if isinstance(error, TrainingFailure):
        return error.reason, error.message
    text = " ".join(str(error).split())[:500] or type(error).__name__
    if is_out_of_memory(error) or (memory_killed and _KILLED.search(text)):
        hint = memory_kills.hint(batch_size, image_size)
        return OUT_OF_MEMORY, f"the training ran out of memory ({text}); {hint}"
    if isinstance(error, OSError) or _DISK.search(text):
        return INFRASTRUCTURE, f"the box could not read or write a file ({text}); check its disk"
    if isinstance(error, torch.AcceleratorError) or (isinstance(error, RuntimeError) and _DEVICE.search(text)):
        return INFRASTRUCTURE, f"the GPU, its driver or a process of the training failed ({text}); check the box"
    return CONFIGURATION, f"the training stopped with {type(error).__name__}: {text}; see the log"
