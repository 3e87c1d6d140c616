"""A folder for what another account must reach."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder into which every account may walk, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="tether-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
