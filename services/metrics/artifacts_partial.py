"""A file on its way to the store, kept by the service until it is whole. Everything here blocks: call it in threads."""

import errno
import fcntl
import hashlib
import os
import threading
from pathlib import Path

_READ_BYTES = 1 << 20


class Closed(Exception):
    """Another stream has taken the file over."""


class Damaged(Exception):
    """What came is not the file that was announced; it was thrown away. `found`: SHA-256 of what came."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found


class Partial:
    """One open file of `size_bytes` whose first `offset` bytes have come; safe to close while a call is under way."""

    def __init__(self, path: Path, size_bytes: int, sha256: str) -> None:
        """Raises BlockingIOError where another process writes it, OSError where the disk does not take it."""
        self.path, self._size_bytes, self._sha256 = path, size_bytes, sha256
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self.offset = 0
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._descriptor).st_size > size_bytes:
                os.ftruncate(self._descriptor, 0)
            while chunk := os.pread(self._descriptor, _READ_BYTES, self.offset):
                self._digest.update(chunk)
                self.offset += len(chunk)
        except BaseException:
            self.close()
            raise

    @property
    def complete(self) -> bool:
        return self.offset == self._size_bytes

    def write(self, chunk: bytes) -> None:
        """Append it all, or nothing of it. Raises Closed, and OSError where the disk is full."""
        with self._lock:
            self._check_open()
            if os.pwrite(self._descriptor, chunk, self.offset) != len(chunk):
                os.ftruncate(self._descriptor, self.offset)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._digest.update(chunk)
            self.offset += len(chunk)

    def check(self) -> None:
        """Make the whole file durable. Raises Damaged, Closed, OSError."""
        with self._lock:
            self._check_open()
            found = self._digest.hexdigest()
            if found != self._sha256:
                os.ftruncate(self._descriptor, 0)
                self.offset, self._digest = 0, hashlib.sha256()
                raise Damaged(found)
            os.fsync(self._descriptor)

    def close(self) -> None:
        with self._lock:
            self._close()

    def discard(self) -> None:
        """Remove the file, which nobody needs any more; one that another stream has taken over stays."""
        with self._lock:
            if self._descriptor >= 0:
                self.path.unlink(missing_ok=True)
                self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise Closed


def remove_old(folder: Path, before_s: float) -> list[str]:
    """Remove files that nobody has written since that moment (Unix seconds); returns their names."""
    removed = []
    for path in folder.glob("*.part"):
        try:
            if path.stat().st_mtime < before_s:
                path.unlink()
                removed.append(path.name)
        except OSError:
            # Gone, or tried again the next time.
            continue
    return removed
