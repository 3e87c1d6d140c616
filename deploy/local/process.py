"""Programs, the processes that run them, and how to recognise a process again after its supervisor has died."""

import asyncio
import contextlib
import math
import os
import pwd
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

LAUNCH = Path(__file__).with_name("launch.py")
LOG_LIMIT_BYTES = 10 * 1024 * 1024
POLL_S = 0.05


@dataclass(frozen=True)
class Account:
    """The user that a program runs under when it must not be root."""

    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """`nobody` if we are root, otherwise None: a program then runs under our own user."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


async def _nothing() -> None:
    """Most programs need no preparation."""


@dataclass(frozen=True)
class Program:
    """What to run and how to tell that it works.

    `probe` returns when the program answers and raises otherwise; each call is bounded by its caller. `before_start`
    runs before each start, restarts included. The kernel sends `death_signal` if the supervisor dies.
    """

    name: str
    argv: tuple[str, ...]
    address: str
    probe: Callable[[], Awaitable[None]]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    before_start: Callable[[], Awaitable[None]] = _nothing


def launch_argv(
    command: Sequence[str], account: Account | None, death_signal: signal.Signals = signal.SIGKILL
) -> list[str]:
    """The command line that runs `command` under the account and ties its life to ours."""
    user = (str(account.uid), str(account.gid)) if account else ("-", "-")
    return [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(death_signal)), *user, *command]


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot: a process id alone is used again sooner or later."""

    pid: int
    start_ticks: int
    boot_id: str

    @staticmethod
    def of(pid: int) -> "ProcessIdentity | None":
        """The process that has this id now, or None. A zombie is no process."""
        try:
            state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # Field 22 of proc(5) stat; the name in field 2 is cut off above because it may hold anything.
        return None if state in "ZX" else ProcessIdentity(pid, int(rest[18]), boot_id())

    def alive(self) -> bool:
        return ProcessIdentity.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal if the process is still the same one."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait_gone(self, timeout_s: float) -> bool:
        """True as soon as the process is gone, False after `timeout_s`. It need not be a child of ours."""
        for _ in range(math.ceil(timeout_s / POLL_S)):
            if not self.alive():
                return True
            await asyncio.sleep(POLL_S)
        return not self.alive()


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


async def end(process: ProcessIdentity, first: signal.Signals, grace_s: float) -> None:
    """Ends a process: `first`, and SIGKILL when it is still there after `grace_s`."""
    process.signal(first)
    if not await process.wait_gone(grace_s):
        process.signal(signal.SIGKILL)
        await process.wait_gone(grace_s)


async def spawn(program: Program, log: Path) -> asyncio.subprocess.Process:
    """Starts the program in its own session, so that Ctrl-C reaches the supervisor alone; output goes to `log`."""
    await program.before_start()
    rotate(log)
    with open_log(log) as output:
        return await asyncio.create_subprocess_exec(
            *launch_argv(program.argv, program.account, program.death_signal),
            cwd=program.cwd,
            env={**os.environ, **program.env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def open_log(log: Path) -> BinaryIO:
    return open(log, "ab", opener=private)


def private(path: str, flags: int) -> int:
    """An opener for files that only their owner may read."""
    return os.open(path, flags, 0o600)


def rotate(log: Path) -> None:
    """Moves a log that has grown past its limit aside; one earlier log is kept."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(_earlier(log))


def rotate_open(log: Path) -> None:
    """The same for a log that a process is writing to, which goes on at the new beginning (it was opened to append).

    What is written between the copy and the cut is lost.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            with open(_earlier(log), "wb", opener=private) as earlier, log.open("rb") as now:
                shutil.copyfileobj(now, earlier)
            os.truncate(log, 0)


def _earlier(log: Path) -> Path:
    return log.with_suffix(".log.1")
