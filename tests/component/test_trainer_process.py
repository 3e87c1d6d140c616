"""The real trainer as its keeper sees it, on the handwritten digits."""

import hashlib
import json
import signal
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from runner_agent.trainer.datasets.sample import write_digits
from tests.support.eventually import eventually
from tests.support.trainer_process import TrainerProcess, assignment


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    location = tmp_path_factory.mktemp("digits")
    write_digits(location)
    return location


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_training_reaches_its_accuracy_and_tells_everything_well_formed(tmp_path: Path, digits: Path) -> None:
    given = assignment(digits, epochs=8)
    given.spec.advanced_evaluation.confusion_matrix = True
    with TrainerProcess(tmp_path) as trainer:
        trainer.until("ready")
        assert trainer.output() == trainer.errors() == ""
        trainer.release(given)
        ended = trainer.until("ended")
        assert trainer.process.wait(timeout=20) == 0
        assert trainer.errors() == ""
    assert (ended["outcome"], ended["reason"]) == ("FINISHED", "")
    assert (ended["steps"], ended["epochs"]) == (8 * 22, 8)
    assert ended["metrics"]["validation/accuracy"] >= 0.95
    kinds = [event["event"] for event in trainer.events]
    assert kinds[:2] == ["ready", "started"]
    assert kinds.count("evaluation") == kinds.count("checkpoint") == 8

    records = trainer.records()
    points = [record.points for record in records if record.HasField("points")]
    assert [p.step for p in points if "train/loss" in p.values] == list(range(1, 8 * 22 + 1))
    assert all({"train/loss", "train/learning_rate"} == set(p.values) for p in points if "train/loss" in p.values)
    assert [record.at_ms for record in records] == sorted(record.at_ms for record in records)
    evaluations = [record.evaluation for record in records if record.HasField("evaluation")]
    assert [evaluation.epoch for evaluation in evaluations] == list(range(1, 9))
    for evaluation in evaluations:
        matrix = evaluation.confusion_matrix
        size = len(matrix.classes)
        assert list(matrix.classes) == [str(digit) for digit in range(10)]
        assert sum(matrix.counts) == 359
        right = sum(matrix.counts[row * size + row] for row in range(size))
        assert evaluation.metrics["validation/accuracy"] == right / 359
        # Columns are the truth: each class's column is its share of the validation images.
        assert all(34 <= sum(matrix.counts[column::size]) <= 38 for column in range(size))

    told = [event["checkpoint"] for event in trainer.told("checkpoint")]
    removed = {name for event in trainer.told("checkpoint") for name in event["checkpoint"]["removed"]}
    kept = [checkpoint for checkpoint in told if checkpoint["name"] not in removed]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {checkpoint["name"] for checkpoint in kept}
    best = max(told, key=lambda checkpoint: checkpoint["metrics"]["validation/accuracy"])
    assert [checkpoint["name"] for checkpoint in told if checkpoint["best"]][-1] == best["name"]
    for checkpoint in kept:
        content = Path(checkpoint["path"]).read_bytes()
        assert len(content) == checkpoint["bytes"]
        assert hashlib.sha256(content).hexdigest() == checkpoint["sha256"]
        with safe_open(checkpoint["path"], "pt") as tensors:
            names = set(tensors.keys())
            about = json.loads(tensors.metadata()["tether"])
        assert "model.network.classifier.1.weight" in names
        assert "optimizer.network.classifier.1.weight.exp_avg" in names
        assert (about["step"], about["classes"]) == (checkpoint["step"], [str(digit) for digit in range(10)])
    assert "epoch 8/8 step 176 loss" in trainer.output()


def test_a_stop_saves_a_checkpoint_and_says_that_it_was_killed(tmp_path: Path, digits: Path) -> None:
    with TrainerProcess(tmp_path) as trainer:
        trainer.until("ready")
        trainer.release(assignment(digits, epochs=200))
        trainer.until("evaluation")
        trainer.process.send_signal(signal.SIGTERM)
        trainer.process.send_signal(signal.SIGTERM)
        ended = trainer.until("ended", timeout_s=10)
        assert trainer.process.wait(timeout=5) == 0
    assert (ended["outcome"], ended["reason"]) == ("KILLED", "")
    saved = trainer.told("checkpoint")[-1]["checkpoint"]
    assert saved["step"] == ended["steps"] >= 22
    assert Path(saved["path"]).stat().st_size == saved["bytes"]
    assert max(record.points.step for record in trainer.records()) == ended["steps"]


async def test_the_death_of_the_keeper_ends_the_trainer_and_its_workers_at_once(tmp_path: Path, digits: Path) -> None:
    given = assignment(digits, epochs=200)
    # Decoded at this size the images do not fit in memory, so that worker processes decode them.
    given.spec.hyperparameters.image_size = 320
    given.spec.hyperparameters.batch_size = 2
    with TrainerProcess(tmp_path) as trainer:
        trainer.until("ready")
        trainer.release(given)
        trainer.until("progress")
        processes = [psutil.Process(trainer.process.pid), *psutil.Process(trainer.process.pid).children(recursive=True)]
        assert len(processes) > 1
        assert trainer.process.stdin is not None
        trainer.process.stdin.close()
        assert trainer.process.wait(timeout=5) == 1
        await eventually(lambda: not any(alive(process) for process in processes), 5, "the end of all workers")
    assert not trainer.told("ended")
