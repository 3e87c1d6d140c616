"""`tether-runner` list, disk and prune as commands, and the help of every verb."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from runner_agent.cli import app
from runner_agent.config import BoxConfig, StateFolder
from tests.support.attempt_on_disk import attempt, left
from tests.support.installed_runner import InstalledRunner


def command(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "XDG_DATA_HOME": str(home), "COLUMNS": "200"}
    environment.pop("TETHER_RUNNER_STATE", None)
    return subprocess.run(
        [sys.executable, "-m", "runner_agent.cli", *arguments],
        env=environment,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_every_verb_has_help_and_an_example() -> None:
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    assert {"suspend", "resume", "restart", "list", "disk", "prune"} <= set(commands)
    for name, verb in commands.items():
        assert verb.help, name
        # A group says what it is for; its commands have the examples.
        for below, one in getattr(verb, "commands", {"": verb}).items():
            full = f"{name} {below}".strip()
            assert one.help, full
            assert f"tether-runner {full}" in (one.epilog or ""), full


def test_a_box_without_runners_lists_none_and_says_what_to_do(tmp_path: Path) -> None:
    empty = command(tmp_path, "list")
    assert (empty.returncode, empty.stdout.count("\n")) == (0, 1)
    assert "tether-runner install" in empty.stdout
    assert json.loads(command(tmp_path, "list", "--json").stdout) == []
    refused = command(tmp_path, "prune")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_all_runners_of_the_box_are_listed_a_damaged_one_too(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = StateFolder(tmp_path / "tether-runner" / name)
        folder.root.mkdir(parents=True)
        folder.save(BoxConfig(name=name, server="127.0.0.1:1", simulate_gpus="NVIDIA T4:1"))
    folder.config.write_text("name = 3")
    rows = json.loads(command(tmp_path, "list", "--json").stdout)
    assert [(row["name"], row["running"], row["connected"], row["training"]) for row in rows] == [
        ("one", False, False, None),
        ("two", False, False, None),
    ]
    assert rows[0]["problem"] == ""
    assert "correct it" in rows[1]["problem"]
    shown = command(tmp_path, "list")
    assert shown.returncode == 0
    assert "correct it" in shown.stderr


@pytest.fixture
def box(tmp_path: Path) -> InstalledRunner:
    return InstalledRunner(tmp_path / "state", "127.0.0.1:1")


def test_prune_shows_first_asks_then_and_frees_what_it_said(box: InstalledRunner) -> None:
    one = attempt(box.folder, "a1")
    assert "prune --dry-run" in box.command("disk").stdout
    assert json.loads(box.command("disk", "--json").stdout)["attempts"][0]["state"] == "delivered"
    shown = box.command("prune", "--dry-run").stdout
    assert "Would free 6.1 KiB of 1 trainings" in shown
    unasked = box.command("prune")
    assert (unasked.returncode, unasked.stderr.count("\n")) == (1, 1)
    assert "--yes" in unasked.stderr
    assert len(left(one)) == 3
    assert "Freed 6.1 KiB" in box.command("prune", "--yes").stdout
    assert left(one) == ["step-2", "step-3"]
    assert "nothing to remove" in box.command("prune", "--yes").stdout
    shown = box.command("prune", "--checkpoints", "--dry-run").stdout
    assert "with step-2, step-3" in shown
    assert box.command("prune", "--checkpoints").returncode == 1
    assert left(one) == ["step-2", "step-3"]
    assert "Freed 9.8 KiB" in box.command("prune", "--checkpoints", "--yes").stdout
    assert left(one) == []
