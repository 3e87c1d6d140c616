"""Why a training failed, so that nobody is blamed for another's fault."""

import re

import torch

DATASET = "END_REASON_DATASET"
CONFIGURATION = "END_REASON_CONFIGURATION"
OUT_OF_MEMORY = "END_REASON_OUT_OF_MEMORY"
INFRASTRUCTURE = "END_REASON_INFRASTRUCTURE"

# What torch says, as plain RuntimeErrors, about the device, its driver, its libraries and its interconnect.
_DEVICE = re.compile(r"cuda|cudnn|cublas|nccl|nvml|nvidia|driver|no kernel image|dataloader worker", re.IGNORECASE)
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


def explain(error: BaseException) -> tuple[str, str]:
    """The end reason and one sentence for any exception that ended a training."""
    if isinstance(error, TrainingFailure):
        return error.reason, error.message
    text = " ".join(str(error).split())[:500] or type(error).__name__
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or _MEMORY.search(text):
        hint = "choose a smaller batch_size or image_size, or a runner with more memory"
        return OUT_OF_MEMORY, f"the training ran out of memory ({text}); {hint}"
    if isinstance(error, OSError):
        return INFRASTRUCTURE, f"the box could not read or write a file ({text}); check its disk"
    if isinstance(error, torch.AcceleratorError) or (isinstance(error, RuntimeError) and _DEVICE.search(text)):
        return INFRASTRUCTURE, f"the GPU, its driver or a process of the training failed ({text}); check the box"
    return CONFIGURATION, f"the training stopped with {type(error).__name__}: {text}; see the log"
