"""Small files that are either the old or the new one, whatever happens, and that only their owner may read."""

import os
from pathlib import Path

from deploy.local.process import private


def write_private(path: Path, text: str) -> None:
    """Replaces the file in one step, with mode 0600."""
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "w", opener=private) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
