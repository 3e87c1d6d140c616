"""Runs a command in a process of its own, so that what it does cannot hurt the agent."""

import asyncio
import contextlib
import os
import signal


async def run(command: list[str], timeout_s: float) -> int | None:
    """Exit code of the command; None if it had to be killed. Nothing of it is left in the end, cancelled or not."""
    pid = _spawn(command)
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    killed = False
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        killed = True
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        code = _end(pid)
    return None if killed else code


def _spawn(command: list[str]) -> int:
    """posix_spawn never runs code of this process in the child: a fork would not be safe once gRPC has started."""
    return os.posix_spawn(command[0], command, os.environ, setsid=True)


def _end(pid: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
