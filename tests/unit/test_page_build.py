"""A build of the page takes the place of the one before it."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

_SCRIPT = Path(__file__).parents[2] / "services" / "gateway" / "web" / "build.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build with a page of one file, each time another."""
    spec = importlib.util.spec_from_file_location("page_build", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    texts = iter(("first", "second"))

    def npm(*arguments: str) -> None:
        made = Path(arguments[arguments.index("--outDir") + 1])
        made.mkdir()
        (made / "index.html").write_text(next(texts))

    monkeypatch.setattr(script, "PAGE", tmp_path / "page")
    monkeypatch.setattr(script, "install", lambda: None)
    monkeypatch.setattr(script, "npm", npm)
    return script


def test_nothing_of_a_page_is_removed_before_the_next_stands_in_its_place(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.build()
    rmtree, during = shutil.rmtree, []

    def removing(folder: Path, ignore_errors: bool) -> None:
        if folder.exists():
            during.append((tmp_path / "page" / "index.html").read_text())
        rmtree(folder, ignore_errors=ignore_errors)
        assert (tmp_path / "page" / "index.html").exists()

    monkeypatch.setattr(shutil, "rmtree", removing)
    script.build()
    assert during == ["second"], "only the old page, afterwards"
    assert [one.name for one in tmp_path.iterdir()] == ["page"]
