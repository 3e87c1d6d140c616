"""Finding and ending what is left of an attempt: all that a trainer spawned carries its pair in its environment."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    session: int
    # A letter of the kernel's: D for one that waits in a driver and cannot be killed meanwhile.
    state: str
    program: str


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


def described(pids: list[int]) -> str:
    """Processes for people, for example `process 4242 (python3, state D)`; empty where none of them lives."""
    found = [process for process in (_read(pid) for pid in sorted(pids)) if process is not None]
    shown = ", ".join(f"{one.pid} ({one.program}, state {one.state})" for one in found[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return f"process {shown}{more}" if found else ""


def stranger(pid: int) -> str:
    """The program of a living process that no runner of this box has started; empty for others.

    Empty, too, for one that cannot be seen from here: outside a container NVML's pids are not ours, and it may be the
    runner's own.
    """
    process = _read(pid)
    if process is None or process.state in "ZX":
        return ""
    try:
        marks = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except FileNotFoundError:
        return ""
    except OSError:
        # Another user's.
        marks = []
    return "" if any(mark.startswith(b"TETHER_PAIR=") for mark in marks) else process.program


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
        head, _, tail = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")
        fields = tail.split()
        return Process(pid, session=int(fields[3]), state=fields[0], program=head.split("(", 1)[1])
    return None
