"""Whose fault a failure is."""

import pytest
import torch

from runner_agent.trainer.failures import (
    CONFIGURATION,
    DATASET,
    INFRASTRUCTURE,
    OUT_OF_MEMORY,
    ConfigurationFailure,
    DatasetFailure,
    explain,
)


@pytest.mark.parametrize(
    ("error", "reason", "told"),
    [
        (DatasetFailure("a/1.png is empty"), DATASET, "a/1.png is empty"),
        (ConfigurationFailure("epochs is -1"), CONFIGURATION, "epochs is -1"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OUT_OF_MEMORY, "smaller batch_size"),
        (MemoryError(), OUT_OF_MEMORY, "smaller batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), OUT_OF_MEMORY, "image_size"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), INFRASTRUCTURE, "check the box"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), INFRASTRUCTURE, "GPU"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), INFRASTRUCTURE, "check the box"),
        (OSError(28, "No space left on device"), INFRASTRUCTURE, "No space left"),
        (RuntimeError("mat1 and mat2\n shapes cannot be multiplied"), CONFIGURATION, "mat1 and mat2 shapes"),
        (ZeroDivisionError(), CONFIGURATION, "ZeroDivisionError"),
    ],
)
def test_each_failure_has_its_reason_and_one_sentence(error: Exception, reason: str, told: str) -> None:
    found, message = explain(error)
    assert found == reason
    assert told in message
    assert "\n" not in message
