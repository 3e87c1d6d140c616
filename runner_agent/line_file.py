"""An append-only file of lines, written by one process and read by another. Standard library only."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from runner_agent import files


class LineFile:
    """Takes lines whole or not at all; a disk that is full or fails is an answer, never an exception.

    A reader that goes by line ends never sees a line that is taken back: its number stays its own.
    """

    def __init__(self, path: Path) -> None:
        """Go on behind the last whole line of the file, which is made if it is absent. Raises OSError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end = files.whole_lines_end(self._descriptor)
        self._torn = os.fstat(self._descriptor).st_size > self._end

    def append(self, lines: Sequence[bytes]) -> int:
        """Write lines, each with its line end, in one call. Returns how many of the first ones the disk took."""
        if not lines:
            return 0
        try:
            self._cut()
            written = os.pwrite(self._descriptor, b"".join(lines), self._end)
        except OSError:
            return 0
        taken, whole_bytes = 0, 0
        for line in lines:
            if whole_bytes + len(line) > written:
                break
            taken, whole_bytes = taken + 1, whole_bytes + len(line)
        self._end += whole_bytes
        self._torn = written > whole_bytes
        with contextlib.suppress(OSError):
            self._cut()
        return taken

    def close(self) -> None:
        os.close(self._descriptor)

    def _cut(self) -> None:
        """Cut off the beginning of a line that did not fit: it has no line end, so nobody has read it."""
        if self._torn:
            os.ftruncate(self._descriptor, self._end)
            self._torn = False
