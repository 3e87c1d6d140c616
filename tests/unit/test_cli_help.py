"""Help: complete, with examples, and fast."""

import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from services.cli.__main__ import run
from services.cli.app import GROUPS, build


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    if path and (not below or command.callback is not None):
        yield " ".join(path), command
    for name, child in below.items():
        yield from commands(child, (*path, name))


ALL = dict(
    pair for name in GROUPS for pair in commands(typer.main.get_command(build([name]))) if pair[0].split()[0] == name
)


def test_the_command_line_has_what_the_platform_can_do() -> None:
    assert set(ALL) >= {
        "runners list", "runners add", "runners show", "runners suspend", "runners resume", "runners watch",
        "workflows list", "workflows show", "workflows save", "workflows revise", "workflows duplicate",
        "workflows delete", "datasets list", "datasets register", "datasets check", "train run", "train architectures",
        "jobs list",
        "jobs show", "jobs watch", "jobs stop", "jobs logs", "metrics list", "metrics show", "usage", "usage charges",
        "usage verify", "usage set", "events", "tokens list", "tokens create", "tokens revoke", "workspaces create",
        "whoami", "open",
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(ALL))
def test_every_command_has_help_and_an_example_that_names_it(path: str) -> None:
    command = ALL[path]
    if path == "workspaces":
        return
    assert command.help, path
    epilog = (command.epilog or "").replace("tether train digits", "tether train run digits")
    assert f"tether {path}" in epilog


@pytest.mark.parametrize("path", sorted(set(ALL) - {"workspaces"}))
def test_every_command_prints_json_for_programs(path: str) -> None:
    assert any("--json" in parameter.opts for parameter in ALL[path].params)


def test_help_imports_neither_grpc_nor_a_proto() -> None:
    code = (
        "import sys; from services.cli.__main__ import build; build(['--version']);"
        "print([name for name in sys.modules if name.startswith(('grpc', 'protos', 'google'))])"
    )
    # Commands of other parts of the distribution are not ours to keep light.
    patched = f"import importlib.metadata as m; m.entry_points = lambda **_: []; {code}"
    found = subprocess.run([sys.executable, "-c", patched], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'; see `tether --help`"),
        (["runners", "add"], "Missing argument 'name'; see `tether runners add --help`"),
        (["train", "digits", "--epochs", "many"], "see `tether train run --help`"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--any"], "say what to train: DATASET and ARCHITECTURE, or --workflow WORKFLOW"),
        (["train", "digits", "--any"], "say what to train: DATASET and ARCHITECTURE, or --workflow WORKFLOW"),
        (["train", "digits", "--workflow", "small", "--any"], "leave those out, or change the workflow with `tether"),
        (["train", "--workflow", "small", "--seed", "3", "--any"], "`tether workflows revise small`"),
        (["workflows", "delete", "small"], "this needs an answer; run it in a terminal, or with --yes"),
        (["workflows", "revise", "small"], "nothing is to be changed; name a setting"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_platform_is_asked(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(arguments) == 1
    assert words in capsys.readouterr().err


def test_a_part_of_the_distribution_that_is_not_installed_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def load(self) -> None:
            raise ImportError("no module named deploy")

    monkeypatch.setattr("services.cli.app.entry_points", lambda group: [Missing()])
    assert "runners" in typer.main.get_command(build([])).commands  # type: ignore[attr-defined]
