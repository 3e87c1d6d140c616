"""The real trainer, in whose first steps a fault happens: `python -m tests.support.failing_trainer FAULT …`."""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from runner_agent.trainer import __main__, loop

FAULT_STEP = 3
MIB = 1024 * 1024


def _raise(error: Exception) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault


def _killed_by_kernel() -> None:
    """As the kernel does it: it counts, then kills. The counter is the file that the test has put in its place."""
    counter = Path(os.environ["OOM_COUNTER"])
    counter.write_text("oom_kill 1\n")
    os.kill(os.getpid(), signal.SIGKILL)


def _eats_memory() -> None:
    """Until the kernel kills, for real: the test has set a limit."""
    eaten = []
    while True:
        eaten.append(torch.ones(16 * MIB // 4))


def _gets_no_memory() -> None:
    """Until an allocation is refused."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200 * MIB, resource.RLIM_INFINITY))
    _eats_memory()


FAULTS: dict[str, Callable[[], None]] = {
    "gpu-memory": _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    "cuda": _raise(torch.AcceleratorError("CUDA error: unspecified launch failure")),
    "disk": _raise(OSError(28, "No space left on device")),
    "bug": _raise(ValueError("a shape does not fit")),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kernel": _killed_by_kernel,
    "eats-memory": _eats_memory,
    "gets-no-memory": _gets_no_memory,
}


def main() -> None:
    fault = FAULTS[sys.argv.pop(1)]
    step = loop.Training._step

    def failing(self: loop.Training, *arguments: Any) -> None:
        step(self, *arguments)
        if self._progress.step == FAULT_STEP:
            fault()

    loop.Training._step = failing  # type: ignore[method-assign, assignment]
    __main__.main()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
