"""A small file system of its own for a test, which can be filled for real. Needs `pytest.mark.mounts`."""

import contextlib
import os
import subprocess
from pathlib import Path

CHUNK_BYTES = 64 * 1024


class SmallDisk:
    """Mounted at `path` while the context is entered."""

    def __init__(self, path: Path, size_mib: int = 16) -> None:
        self.path = path
        self._size_mib = size_mib
        self._ballast = path / "ballast"

    def __enter__(self) -> "SmallDisk":
        self.path.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size_mib}m,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a process of the test that has only just been killed may still hold a file.
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def fill(self) -> None:
        """Until not one more byte is taken."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with contextlib.suppress(OSError):
            while os.write(descriptor, b"x" * CHUNK_BYTES):
                pass
        os.close(descriptor)
        assert self.free_bytes() == 0

    def free(self) -> None:
        self._ballast.unlink()

    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize
