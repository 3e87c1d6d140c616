"""What the keeper writes for good: phase, facts, outcome, and the stamp of being alive. Standard library only.

A full disk takes none of that away. Facts go into blocks that were set aside for them when the attempt began; the
end has a file of its own that is removed to make room for it. What even so cannot be written stays in the keeper,
which tells it in its status and tries again for as long as it lives.
"""

import contextlib
import json
import os
from collections import deque
from pathlib import Path
from typing import Any

from runner_agent import disk_blocks, files
from runner_agent import keeper_messages as m

RESERVE = "reserve"
RESERVE_BYTES = 1024 * 1024
FACTS_RESERVE_BYTES = 256 * 1024
# Facts that wait for the disk; beyond that the newest are dropped, the end of the attempt never.
MOST_PENDING = 10_000
# Of what waits, as much is told in a status line; the rest follows when there is room.
MOST_TOLD_BYTES = 32 * 1024


class AttemptFiles:
    """The durable files of one attempt; `begin` comes first."""

    def __init__(self) -> None:
        self._folder = Path()
        self._written = 0
        self._pending: deque[m.AppendFact | m.WriteOutcome] = deque()
        # The newest phase that is not written yet; one before it is of no use any more.
        self._phase: m.WritePhase | None = None
        # The disk has refused what waits.
        self._refused = False
        # The outcome has come: nothing of the training is alive any more.
        self._ending = False

    def begin(self, folder: Path, phase: dict[str, Any]) -> None:
        """Make the phase file, which must not exist, and set room aside.

        Raises FileExistsError where the attempt was begun before, and OSError where the disk has no room for its end.
        """
        self._folder = folder
        files.create_once(folder / "phase.json", to_line(phase))
        _set_aside(folder / RESERVE)
        facts = os.open(folder / "facts.jsonl", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            disk_blocks.reserve(facts, FACTS_RESERVE_BYTES)
        finally:
            os.close(facts)

    def put(self, action: m.AppendFact | m.WriteOutcome | m.WritePhase) -> None:
        """Have it written by `flush`: facts and outcome in order, and behind the last of them the newest phase."""
        if isinstance(action, m.WritePhase):
            self._phase = action
            return
        fact = isinstance(action, m.AppendFact) and action.fact["fact"] != "ended"
        if not fact or len(self._pending) < MOST_PENDING:
            self._pending.append(action)

    @property
    def waiting(self) -> bool:
        return bool(self._pending or self._phase)

    def flush(self) -> None:
        """Write what waits; what the disk does not take is tried again by the next call."""
        self._refused = False
        while self._pending and not self._refused:
            if self._taken(self._pending[0]):
                self._pending.popleft()
            else:
                self._refused = True
        # A phase needs another block than facts do: it must not keep them from theirs.
        if self._phase is not None and not self._refused and self._taken(self._phase):
            self._phase = None

    def _taken(self, action: m.AppendFact | m.WriteOutcome | m.WritePhase) -> bool:
        """Write it; False where the disk refuses it."""
        self._ending = self._ending or isinstance(action, m.WriteOutcome)
        try:
            self._write(action)
        except OSError:
            # Until the end the reserve stays: whatever else fills the disk would take it.
            return self._ending and self._give_up_reserve() and self._taken(action)
        return True

    def stamp(self, content: dict[str, Any]) -> None:
        """Replace the stamp; on a full disk write over the old one, in its own block. A stamp may be missed."""
        path = self._folder / "alive"
        try:
            files.replace(path, to_line(content))
        except OSError:
            with contextlib.suppress(OSError):
                _write_over(path, to_line(content))

    def end(self) -> None:
        """Everything is written: what was set aside is given back."""
        with contextlib.suppress(OSError):
            (self._folder / RESERVE).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path = self._folder / "facts.jsonl"
            os.truncate(path, path.stat().st_size)

    def told(self) -> tuple[int, list[dict[str, Any]]]:
        """How many facts are durable, and those behind them, in order, that the disk does not take."""
        found: list[dict[str, Any]] = []
        if self._refused:
            left = MOST_TOLD_BYTES
            for action in self._pending:
                if isinstance(action, m.AppendFact):
                    left -= len(to_line(action.fact))
                    if left < 0:
                        break
                    found.append(action.fact)
        return self._written, found

    def _write(self, action: m.AppendFact | m.WriteOutcome | m.WritePhase) -> None:
        match action:
            case m.AppendFact(fact):
                files.append(self._folder / "facts.jsonl", to_line(fact))
                self._written += 1
            case m.WriteOutcome(content):
                files.replace(self._folder / "outcome.json", to_line(content))
            case m.WritePhase(content):
                files.replace(self._folder / "phase.json", to_line(content))

    def _give_up_reserve(self) -> bool:
        """True where there was one."""
        try:
            (self._folder / RESERVE).unlink()
        except OSError:
            return False
        return True


def to_line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _set_aside(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _write_over(path: Path, content: bytes) -> None:
    """Write into the blocks that the file has; blanks fill what was longer before."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        length = os.fstat(descriptor).st_size
        os.pwrite(descriptor, content.rstrip(b"\n").ljust(length - 1) + b"\n", 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
