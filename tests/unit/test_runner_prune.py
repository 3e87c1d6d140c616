"""Pruning takes only what the platform has, and never what exists nowhere else without being asked to."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from protos.scheduler.v1 import session_pb2
from runner_agent import dataset_cache, disk
from runner_agent.attempts import AttemptFolder
from runner_agent.cli import app
from runner_agent.config import BoxConfig, StateFolder
from runner_agent.facts import Fact
from tests.support.attempt_on_disk import CHECKPOINT_BYTES, LOG_BYTES, SPOOL_BYTES, attempt, left

RECORD = {"assignment.json", "assignment.pb", "checkpoints", "facts.jsonl", "phase.json", "reported.json", "shipped"}


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    found = StateFolder(tmp_path / "state")
    found.attempts.mkdir(parents=True)
    return found


def installed(folder: StateFolder) -> Path:
    folder.save(BoxConfig(name="box", server="127.0.0.1:1"))
    return folder.root


@pytest.mark.parametrize("lacking", ["ended", "told", "shipped"])
def test_what_is_not_over_and_delivered_stays(folder: StateFolder, lacking: str) -> None:
    attempt(folder, "a1", **{lacking: False})
    waiting = AttemptFolder(folder.attempts, "a2")
    waiting.make(session_pb2.Assignment(attempt_id="a2"))
    assert disk.prunable(folder, checkpoints=True) == []
    assert [one.state for one in disk.use(folder).attempts] == ["over", "waiting"]


def test_a_pruned_attempt_keeps_its_best_and_last_checkpoint_and_can_never_start_again(folder: StateFolder) -> None:
    one = attempt(folder, "a1")
    items = disk.prunable(folder, checkpoints=False)
    assert [(item.attempt_id, item.bytes, item.precious) for item in items] == [
        ("a1", SPOOL_BYTES + LOG_BYTES + CHECKPOINT_BYTES, ())
    ]
    assert disk.prune(items) == (items[0].bytes, [])
    assert left(one) == ["step-2", "step-3"]
    assert {path.name for path in one.path.iterdir()} == RECORD
    assert one.started()
    assert one.told()
    assert one.shipped()
    assert disk.prunable(folder, checkpoints=False) == []


def test_best_and_last_go_only_when_asked_for_and_are_named(folder: StateFolder) -> None:
    one = attempt(folder, "a1")
    items = disk.prunable(folder, checkpoints=True)
    assert items[0].precious == ("step-2", "step-3")
    disk.prune(items)
    assert left(one) == []
    assert one.started()


def test_the_checkpoint_that_an_attempt_began_with_goes_with_its_spools(folder: StateFolder) -> None:
    """It came from the platform, and no other attempt reads it; of one that is not over yet it stays."""
    done, going = attempt(folder, "a1", saved=0), attempt(folder, "a2", saved=0, ended=False)
    for one in (done, going):
        (one.path / "inputs").mkdir()
        (one.path / "inputs" / "step-9.safetensors").write_bytes(b"x" * 9000)
    assert [(one.input_bytes, one.other_bytes < 1000) for one in disk.use(folder).attempts] == [(9000, True)] * 2
    (item,) = disk.prunable(folder, checkpoints=False)
    assert (item.attempt_id, item.bytes, item.precious) == ("a1", SPOOL_BYTES + LOG_BYTES + 9000, ())
    assert disk.prune([item]) == (item.bytes, [])
    assert not (done.path / "inputs").exists()
    assert (going.path / "inputs" / "step-9.safetensors").exists()
    shown = CliRunner().invoke(app, ["disk", "--state-dir", str(installed(folder))])
    assert "began with" in shown.output
    assert "8.8 KiB" in shown.output


def test_a_prune_that_leaves_the_fetched_datasets_does_not_walk_over_them(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[Path] = []
    bytes_of = dataset_cache.bytes_of

    def noting(path: Path) -> int:
        walked.append(path)
        return bytes_of(path)

    monkeypatch.setattr(dataset_cache, "bytes_of", noting)
    (folder.datasets / "one" / "files").mkdir(parents=True)
    for option in ([], ["--datasets"]):
        assert walked == []
        command = ["prune", "--dry-run", *option, "--state-dir", str(installed(folder))]
        assert CliRunner().invoke(app, command).exit_code == 0
    assert walked == [folder.datasets / "one"]


def test_a_link_is_removed_and_what_it_points_to_stays(folder: StateFolder, tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "file").write_bytes(b"x" * 10_000)
    one = attempt(folder, "a1", saved=0)
    (one.path / "checkpoints" / ".link").symlink_to(treasure)
    items = disk.prunable(folder, checkpoints=False)
    assert items[0].bytes < 10_000
    assert disk.prune(items)[1] == []
    assert left(one) == []
    assert (treasure / "file").exists()


@given(best=st.lists(st.booleans(), max_size=8), unknown=st.booleans())
def test_the_last_checkpoint_and_the_last_that_was_best_are_precious_and_so_is_what_nobody_knows(
    best: list[bool], unknown: bool
) -> None:
    facts = [
        Fact(number, {"fact": "checkpoint", "checkpoint": {"name": f"step-{number}", "best": one}})
        for number, one in enumerate(best, 1)
    ]
    names = [f"step-{number}" for number in range(1, len(best) + 1)] + [".step-9"] + ["by-hand"] * unknown
    bests = [number for number, one in enumerate(best, 1) if one]
    expected = {f"step-{number}" for number in [*bests[-1:], *([len(best)] if best else [])]}
    assert disk.precious([Fact(0, {"fact": "started"}), *facts], names) == expected | (
        {"by-hand"} if unknown else set()
    )


def test_the_use_of_the_folder_adds_up(folder: StateFolder) -> None:
    attempt(folder, "a1")
    attempt(folder, "a2", saved=0)
    folder.agent_log.write_bytes(b"x" * 70)
    (folder.root / "agent.log.1").write_bytes(b"x" * 7)
    folder.installation_id.write_bytes(b"x" * 5)
    found = disk.use(folder)
    first = found.attempts[0]
    assert (first.spool_bytes, first.log_bytes, first.checkpoint_bytes) == (
        SPOOL_BYTES,
        LOG_BYTES,
        3 * CHECKPOINT_BYTES,
    )
    assert (found.log_bytes, found.other_bytes) == (77, 5)
    files = sum(path.stat().st_size for path in folder.root.rglob("*") if path.is_file())
    assert found.total_bytes == files == disk.use_as_json(found)["total_bytes"]
