"""One process at a time for a folder, and who that is; the kernel lets go of the lock when the process dies."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

ATTEMPTS = 10
PAUSE_S = 0.05


class Lock:
    """An exclusive lock on a file, which also tells the holder's pid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        """False where another process holds it. Tries for ATTEMPTS × PAUSE_S: a `holder` may be looking just now."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for attempt in range(ATTEMPTS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == ATTEMPTS - 1:
                    os.close(descriptor)
                    return False
                time.sleep(PAUSE_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor
        return True

    def holder(self) -> int:
        """Pid of the process that holds the lock; 0 where none does."""
        with contextlib.suppress(OSError, ValueError):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(os.pread(descriptor, 32, 0) or 0)
            finally:
                os.close(descriptor)
        return 0
