"""Finding and ending what is left of an attempt: all that a trainer spawned carries its pair in its environment."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    session: int
    state: str


def keeper_alive(pid: int, pair: str) -> bool:
    """Whether the keeper of the pair lives: the pid alone may be another process by now."""
    if pid <= 0 or not pair:
        return False
    with contextlib.suppress(OSError):
        arguments = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        found = _read(pid)
        return pair.encode() in arguments and found is not None and found.state != "Z"
    return False


def leftovers(pair: str, session: int) -> list[int]:
    """Living processes of the pair's trainer: by its mark in their environment, or by its session."""
    mark = f"TETHER_PAIR={pair}".encode()
    own = os.getuid()
    found = []
    for process in _processes():
        if process.state in "ZX" or process.pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            folder = PROC / str(process.pid)
            if folder.stat().st_uid != own:
                continue
            marked = pair and mark in (folder / "environ").read_bytes().split(b"\0")
            if marked or (session > 1 and process.session == session and _is_ours(session, mark)):
                found.append(process.pid)
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _is_ours(session: int, mark: bytes) -> bool:
    """False where the session's number belongs to a stranger by now."""
    with contextlib.suppress(OSError):
        return mark in (PROC / str(session) / "environ").read_bytes().split(b"\0")
    # Its leader is gone: while members live, the kernel gives the number to no one else.
    return True


def _processes() -> Iterator[Process]:
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            process = _read(int(folder.name))
            if process is not None:
                yield process


def _read(pid: int) -> Process | None:
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
        return Process(pid, session=int(fields[3]), state=fields[0])
    return None
