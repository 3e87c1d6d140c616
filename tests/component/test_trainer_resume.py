"""A training that goes on from a checkpoint is the one that was never interrupted."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save_file

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.trainer import devices
from tests.support.images import brightness_classes
from tests.support.trained import Trained, again
from tests.support.trainer_process import assignment

EVERY_N = training_pb2.CHECKPOINT_POLICY_EVERY_N_EVALUATIONS


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.use_one_thread()


@pytest.fixture
def given(tmp_path: Path) -> session_pb2.Assignment:
    """Five epochs of six steps, each evaluated and saved at every fourth step."""
    one = assignment(brightness_classes(tmp_path / "data"), 5)
    one.spec.hyperparameters.CopyFrom(training_pb2.Hyperparameters(batch_size=16, image_size=16, seed=3))
    one.spec.checkpoint_strategy.policy = EVERY_N
    one.spec.checkpoint_strategy.evaluation_interval_steps = 4
    return one


@pytest.mark.parametrize("step", [4, 12, 28])
def test_it_measures_to_the_last_digit_what_it_would_have_measured_uninterrupted(
    tmp_path: Path, given: session_pb2.Assignment, step: int
) -> None:
    whole = Trained(tmp_path, "at_1", given)
    assert whole.ended["outcome"] == "FINISHED"
    resumed = Trained(tmp_path, "at_2", again(given, whole, step))
    (started,) = resumed.of("started")
    assert (started["step"], started["epoch"]) == (step, step // 6)
    assert "at_1" in started["weights"]
    assert resumed.measured() == whole.measured(after=step)
    assert (resumed.ended["outcome"], resumed.ended["steps"], resumed.ended["epochs"]) == ("FINISHED", 30, 5)
    assert resumed.ended["metrics"] == whole.ended["metrics"]


def test_it_goes_on_after_each_of_several_interruptions(tmp_path: Path, given: session_pb2.Assignment) -> None:
    whole = Trained(tmp_path, "at_1", given)
    second = Trained(tmp_path, "at_2", again(given, whole, 8))
    third = Trained(tmp_path, "at_3", again(given, second, 20))
    assert third.measured() == whole.measured(after=20)


def test_patience_and_the_best_checkpoint_are_judged_over_all_attempts(
    tmp_path: Path, given: session_pb2.Assignment
) -> None:
    given.spec.checkpoint_strategy.policy = training_pb2.CHECKPOINT_POLICY_BEST_METRIC
    given.spec.limits.CopyFrom(training_pb2.Limits(epochs=1000, early_stopping_patience=3))
    whole = Trained(tmp_path, "at_1", given)
    told = [one["checkpoint"] for one in whole.of("checkpoint")]
    given.spec.checkpoint_strategy.policy = EVERY_N
    saving_all = Trained(tmp_path, "at_2", given)
    given.spec.checkpoint_strategy.policy = training_pb2.CHECKPOINT_POLICY_BEST_METRIC
    resumed = Trained(tmp_path, "at_3", again(given, saving_all, 8))
    later = [one["checkpoint"] for one in resumed.of("checkpoint")]
    assert resumed.ended == whole.ended
    assert [(one["step"], one["best"]) for one in later] == [(one["step"], one["best"]) for one in told[2:]]


def test_a_checkpoint_that_a_later_attempt_displaces_is_removed_where_it_lies(
    tmp_path: Path, given: session_pb2.Assignment
) -> None:
    given.spec.checkpoint_strategy.policy = training_pb2.CHECKPOINT_POLICY_LATEST
    spool = tmp_path / "at_1" / "spool" / "trainer.jsonl"
    first = Trained(tmp_path, "at_1", given, lambda: spool.exists() and spool.read_text().count("train/loss") > 5)
    assert first.ended["outcome"] == "KILLED"
    (saved,) = first.files()
    resumed = Trained(tmp_path, "at_2", again(given, first, first.ended["steps"]))
    assert resumed.ended["outcome"] == "FINISHED"
    assert saved in resumed.of("checkpoint")[0]["checkpoint"]["removed"]
    assert first.files() == set()
    assert resumed.files() == {"step-00000030.safetensors"}


def test_a_training_whose_last_step_was_saved_finishes_without_another(
    tmp_path: Path, given: session_pb2.Assignment
) -> None:
    whole = Trained(tmp_path, "at_1", given)
    resumed = Trained(tmp_path, "at_2", again(given, whole, 30))
    assert resumed.ended == whole.ended
    assert resumed.measured() == []


def test_minutes_count_over_all_attempts(tmp_path: Path, given: session_pb2.Assignment) -> None:
    whole = Trained(tmp_path, "at_1", given)
    repeated = again(given, whole, 4, trained_ms=60_000)
    repeated.spec.limits.CopyFrom(training_pb2.Limits(minutes=1))
    resumed = Trained(tmp_path, "at_2", repeated)
    assert (resumed.ended["outcome"], resumed.ended["steps"]) == ("FINISHED", 4), "its minute was used up before"
    anew = session_pb2.Assignment()
    anew.CopyFrom(repeated)
    anew.spec.resume_from.CopyFrom(training_pb2.ResumeFrom(trained_ms=60_000))
    started_anew = Trained(tmp_path, "at_3", anew)
    assert (started_anew.of("started")[0]["weights"], started_anew.ended["steps"]) == ("random", 1)


def test_a_checkpoint_that_cannot_be_read_fails_in_one_sentence_before_it_is_charged(
    tmp_path: Path, given: session_pb2.Assignment
) -> None:
    whole = Trained(tmp_path, "at_1", given)
    path = Path(whole.checkpoint(4)["path"])
    content = path.read_bytes()
    tensors = load(content)

    def fails(name: str, told: str, **more: Any) -> None:
        failed = Trained(tmp_path, name, again(given, whole, 4, **more))
        assert (failed.ended["outcome"], failed.ended["reason"]) == ("FAILED", "END_REASON_INFRASTRUCTURE")
        assert "step-00000004.safetensors of attempt at_1" in failed.ended["message"]
        assert told in failed.ended["message"]
        assert not failed.of("started")

    path.write_bytes(content[:-100])
    fails("changed", "has changed since it was saved")
    fails("cut", "cannot be read", sha256="")
    path.write_bytes(b"\x80\x04cos\nsystem\n")
    fails("pickle", "cannot be read", sha256="")
    save_file({name: tensor for name, tensor in tensors.items() if "network" not in name}, path, {"tether": "{}"})
    fails("other", "cannot be read", sha256="")
    path.unlink()
    fails("gone", "No such file")


def test_a_dataset_with_other_classes_is_not_trained_on_with_an_old_checkpoint(
    tmp_path: Path, given: session_pb2.Assignment
) -> None:
    whole = Trained(tmp_path, "at_1", given)
    (tmp_path / "data" / "grey").rename(tmp_path / "data" / "gray")
    failed = Trained(tmp_path, "at_2", again(given, whole, 4))
    assert (failed.ended["outcome"], failed.ended["reason"]) == ("FAILED", "END_REASON_DATASET")
    assert not failed.of("started")
