"""Small files that survive a crash. Standard library only: the keeper uses it too."""

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable: a new or renamed file is found after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_once(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet, durably. Raises FileExistsError if it does, whoever wrote it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, content, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def replace(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file at once: a reader sees the old or the new content, never a part. `durable` waits for the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, content, 0)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    if durable:
        sync_folder(path.parent)


def append(path: Path, line: bytes) -> None:
    """Append one line durably. A torn line that a crash left at the end is cut off first."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = whole_lines_end(descriptor)
        if os.fstat(descriptor).st_size > end:
            # Only then: it would give up blocks that are set aside behind the end.
            os.ftruncate(descriptor, end)
        _write(descriptor, line, end)
        os.fsync(descriptor)
        if end == 0:
            sync_folder(path.parent)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of it at the offset; a disk that takes only a part counts as full."""
    if os.pwrite(descriptor, content, offset) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def whole_lines_end(descriptor: int) -> int:
    """Offset just behind the last line end of an open file: what follows it is torn."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 65536)
        cut = os.pread(descriptor, end - start, start).rfind(b"\n")
        if cut >= 0:
            return start + cut + 1
        end = start
    return 0


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where the file is absent, torn or something else."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
    return None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line; a torn last line is dropped. Empty where the file is absent.

    A line that is no JSON object is an empty one, so that the numbers of the others stay right.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return []
    return [_object(line) for line in content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]]


def _object(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        content = json.loads(line)
        if isinstance(content, dict):
            return content
    return {}
