"""`tether-runner weights`: what may be added, and what is refused."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from runner_agent import cli, weights
from runner_agent.config import BoxConfig, StateFolder
from runner_agent.errors import BoxError

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.zeros(3)}


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    folder = StateFolder(tmp_path / "runner")
    folder.root.mkdir()
    folder.save(BoxConfig(name="box-1", server="127.0.0.1:50061"))
    return folder.root


def a_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    save_file(TENSORS, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "resnet"}')
    return folder


def test_a_folder_is_copied_listed_and_removed_by_its_name(runner: Path, tmp_path: Path) -> None:
    added = weights.add(runner, "someone/net", a_folder(tmp_path))
    assert (added.parameters, added.model_type) == (9, "resnet")
    assert weights.listed(runner) == [added]
    path = weights.find(runner, "someone/net")
    assert path is not None
    assert path.read_bytes() == (tmp_path / "source" / "model.safetensors").read_bytes()
    weights.remove(runner, "someone/net")
    assert weights.find(runner, "someone/net") is None
    assert weights.listed(runner) == []


def test_weights_of_the_same_name_take_the_place_of_the_old_ones(runner: Path, tmp_path: Path) -> None:
    weights.add(runner, "net", a_folder(tmp_path))
    save_file({"b": torch.ones(5)}, tmp_path / "other.safetensors")
    weights.add(runner, "net", tmp_path / "other.safetensors")
    assert [one.parameters for one in weights.listed(runner)] == [5]


@pytest.mark.parametrize("content", [TENSORS, {"state_dict": TENSORS, "epoch": 3}])
def test_a_pickled_file_of_tensors_is_kept_as_safetensors(
    runner: Path, tmp_path: Path, content: dict[str, object]
) -> None:
    torch.save(content, tmp_path / "net.pt")
    weights.add(runner, "net", tmp_path / "net.pt")
    path = weights.find(runner, "net")
    assert path is not None
    assert torch.equal(load_file(path)["a.weight"], TENSORS["a.weight"])


class _Runs:
    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self._target),)


def test_code_in_a_pickled_file_is_refused_and_never_run(runner: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(pickle.dumps(_Runs(tmp_path / "ran")))
    with pytest.raises(BoxError, match="something else than tensors"):
        weights.add(runner, "net", tmp_path / "net.pt")
    assert not (tmp_path / "ran").exists()
    assert list((runner / "weights").iterdir()) == []


def test_what_is_no_weights_is_refused_in_a_sentence_and_leaves_nothing(runner: Path, tmp_path: Path) -> None:
    source = a_folder(tmp_path)
    whole = (source / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-4])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "bare").mkdir()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "model.safetensors.index.json").write_text("{}")
    save_file({}, tmp_path / "none.safetensors")
    for name, told in (
        ("cut.safetensors", "not a whole safetensors file"),
        ("empty.safetensors", "not a whole safetensors file"),
        ("none.safetensors", "holds no tensors"),
        ("notes.txt", "is not a file of weights"),
        ("bare", "there is no model.safetensors"),
        ("parts", "in several parts"),
        ("gone", "there is no"),
    ):
        with pytest.raises(BoxError, match=told):
            weights.add(runner, "net", tmp_path / name)
    assert list((runner / "weights").iterdir()) == []


@pytest.mark.parametrize("name", ["", "../x", "a/b/c", "/abs", "a--b", ".hidden", "a b", "x" * 97, "a\n"])
def test_a_name_that_is_none_is_refused(runner: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BoxError, match="is not a name for weights"):
        weights.add(runner, name, tmp_path)
    assert weights.find(runner, name) is None
    with pytest.raises(BoxError, match="this runner has no weights"):
        weights.remove(runner, name)


def test_the_commands_add_list_and_remove(runner: Path, tmp_path: Path) -> None:
    where = ["--state-dir", str(runner)]
    run = CliRunner().invoke
    assert "No weights are added here" in run(cli.app, ["weights", "list", *where]).output
    added = run(cli.app, ["weights", "add", "someone/net", str(a_folder(tmp_path)), *where])
    assert (added.exit_code, "9 numbers" in added.output) == (0, True)
    assert "someone/net" in run(cli.app, ["weights", "list", *where]).output
    (listed,) = json.loads(run(cli.app, ["weights", "list", "--json", *where]).output)
    assert (listed["name"], listed["parameters"]) == ("someone/net", 9)
    refused = run(cli.app, ["weights", "remove", "someone/net", *where])
    assert isinstance(refused.exception, BoxError)
    assert run(cli.app, ["weights", "remove", "someone/net", "--yes", *where]).exit_code == 0
    assert weights.listed(runner) == []
