"""Datasets that were fetched from URLs: what lies on the box, what of it is being read, and how it goes.

One folder each, which holds `files`, `index.json` (the URL, and the version of every file) and `lock`. Whoever fetches
or reads one holds the lock, shared.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner_agent import files

INDEX, LOCK = "index.json", "lock"


@dataclass(frozen=True, slots=True)
class Cached:
    """One of them."""

    path: Path
    url: str
    bytes: int
    # True while a training, a check or a fetch uses it.
    held: bool


def listed(cache: Path) -> list[Cached]:
    """All of them, the one that was used longest ago first."""
    return [
        Cached(path, str((files.read_json(path / INDEX) or {}).get("url", path.name)), bytes_of(path), held(path))
        for path in folders(cache)
    ]


def folders(cache: Path) -> list[Path]:
    """Their folders, in the same order."""
    if not cache.is_dir():
        return []
    return sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)


def bytes_of(folder: Path) -> int:
    """Bytes of its files. Those that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total


def hold(folder: Path) -> bool:
    """Keep others from removing it, until the end of this process closes the lock; False where one has."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return (folder / LOCK).exists()


def remove(folder: Path) -> bool:
    """Remove it; False where it is being used or cannot be removed."""
    with _alone(folder) as alone:
        if alone:
            shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def held(folder: Path) -> bool:
    """Whether a training, a check or a fetch uses it."""
    with _alone(folder) as alone:
        return not alone


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether nobody uses it; nobody can begin to while the context lasts."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
