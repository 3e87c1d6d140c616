"""A command in a process of its own, and what it cost."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What the kernel says of a process that has ended."""

    cpu_s: float
    peak_bytes: int


async def run_python(arguments: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run the interpreter to the end; raises AssertionError where it fails. Killed where the caller is cancelled."""
    pid = _spawn(arguments, environment)
    waiting = asyncio.get_running_loop().run_in_executor(None, os.wait4, pid, 0)
    try:
        _, status, usage = await asyncio.shield(waiting)
    except asyncio.CancelledError:
        os.kill(pid, signal.SIGKILL)
        await waiting
        raise
    assert status == 0, f"`python {' '.join(arguments)}` ended with {os.waitstatus_to_exitcode(status)}"
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


@asynccontextmanager
async def busy_processes(count: int) -> AsyncIterator[None]:
    """So many processes that do nothing but compute, until the end of the block."""
    endless = [asyncio.create_task(run_python(["-c", "while True: pass"], os.environ)) for _ in range(count)]
    try:
        yield
    finally:
        for one in endless:
            one.cancel()
        await asyncio.gather(*endless, return_exceptions=True)


def _spawn(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Without our standard output: a progress bar would write over the figures."""
    silence = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    return os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=[silence])
