"""Whose fault a failure is."""

from pathlib import Path

import pytest
import torch

from runner_agent import memory_kills
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
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), INFRASTRUCTURE, "check its disk"),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:2251, unhandled system error"), INFRASTRUCTURE, "GPU"),
        (RuntimeError("The NVIDIA driver on your system is too old"), INFRASTRUCTURE, "driver"),
        (OSError(28, "No space left on device"), INFRASTRUCTURE, "No space left"),
        (RuntimeError("unable to write to file </torch_7>: No space left on device (28)"), INFRASTRUCTURE, "its disk"),
        (RuntimeError("mat1 and mat2\n shapes cannot be multiplied"), CONFIGURATION, "mat1 and mat2 shapes"),
        (ZeroDivisionError(), CONFIGURATION, "ZeroDivisionError"),
    ],
)
def test_each_failure_has_its_reason_and_one_sentence(error: Exception, reason: str, told: str) -> None:
    found, message = explain(error)
    assert found == reason
    assert told in message
    assert "\n" not in message


def test_a_lack_of_memory_is_told_with_what_was_set() -> None:
    _, message = explain(torch.OutOfMemoryError("CUDA out of memory"), batch_size=64, image_size=512)
    assert message.endswith(
        "batch_size is 64 and image_size is 512: choose a smaller one, or a runner with more memory"
    )


def test_a_worker_that_the_kernel_killed_for_lack_of_memory_is_not_the_boxs_fault() -> None:
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    assert explain(error, batch_size=8, memory_killed=True)[0] == OUT_OF_MEMORY
    assert explain(error, batch_size=8)[0] == INFRASTRUCTURE
    assert explain(ZeroDivisionError(), memory_killed=True)[0] == CONFIGURATION


def test_the_kernels_kills_are_counted_in_the_control_group_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    monkeypatch.setattr(memory_kills, "PROC", proc)
    monkeypatch.setattr(memory_kills, "CGROUPS", groups)
    assert memory_kills.counted() == 0
    (proc / "self").mkdir(parents=True)
    (proc / "vmstat").write_text("nr_free_pages 5\noom_kill 7\n")
    (proc / "self" / "cgroup").write_text("4:memory:/runner\n0::/runner\n")
    assert memory_kills.counted() == 7
    (groups / "runner").mkdir(parents=True)
    (groups / "runner" / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert memory_kills.counted() == 2
    (groups / "memory" / "runner").mkdir(parents=True)
    (groups / "memory" / "runner" / "memory.oom_control").write_text("under_oom 0\noom_kill 4\n")
    assert memory_kills.counted() == 4
