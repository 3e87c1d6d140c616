"""Kill, memory and disk, for real: the reason is the right one, and the last good checkpoint is never lost."""

import hashlib
import os
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format
from safetensors.torch import load_file

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.trainer import devices
from tests.support.eventually import eventually
from tests.support.images import brightness_classes
from tests.support.keeper_under_test import KeeperUnderTest
from tests.support.memory_limit import memory_limit
from tests.support.small_disk import SmallDisk
from tests.support.trained import Trained, again
from tests.support.trainer_process import TrainerProcess, assignment

TIMEOUT_S = 120.0
# The trainer with its libraries takes half of it.
LIMIT_BYTES = 1200 * 1024 * 1024
# Too little for a checkpoint, which takes about a megabyte, but enough to begin one.
LITTLE_BYTES = 400_000


def saving_each_step(location: Path, steps: int) -> session_pb2.Assignment:
    given = assignment(location, 0)
    given.spec.limits.steps = steps
    given.spec.hyperparameters.CopyFrom(training_pb2.Hyperparameters(batch_size=16, image_size=16, seed=3))
    given.spec.checkpoint_strategy.policy = training_pb2.CHECKPOINT_POLICY_LATEST
    given.spec.checkpoint_strategy.evaluation_interval_steps = 1
    return given


def sound(checkpoint: dict[str, object]) -> bool:
    content = Path(str(checkpoint["path"])).read_bytes()
    return hashlib.sha256(content).hexdigest() == checkpoint["sha256"] and len(content) == checkpoint["bytes"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("eats-memory", marks=pytest.mark.memory_limits),
        pytest.param("gets-no-memory", marks=pytest.mark.slow),
    ],
)
async def test_a_training_that_gets_no_more_memory_is_told_so_and_keeps_its_last_checkpoint(
    tmp_path: Path, fault: str
) -> None:
    """By the kernel, which kills below a limit of memory, or by an allocation that is refused."""
    given = saving_each_step(brightness_classes(tmp_path / "data"), 1000)
    command = (sys.executable, "-m", "tests.support.failing_trainer", fault)
    with (
        memory_limit(LIMIT_BYTES) as around,
        KeeperUnderTest(tmp_path, trainer=command, around=around or ()) as keeper,
    ):
        text = json_format.MessageToJson(given, preserving_proto_field_name=True)
        (keeper.directory / "assignment.json").write_text(text)
        await eventually(lambda: keeper.ask(cmd="status")["ready"], TIMEOUT_S, "a warm trainer")
        keeper.start()
        await eventually(lambda: keeper.process.poll() is not None, TIMEOUT_S, "the end")
        outcome = keeper.outcome()
        saved = [fact["checkpoint"] for fact in keeper.facts() if fact["fact"] == "checkpoint"]
    assert (outcome["outcome"], outcome["reason"]) == ("FAILED", "END_REASON_OUT_OF_MEMORY")
    assert "batch_size is 16 and image_size is 16: choose a smaller one" in outcome["message"]
    assert saved[-1]["step"] in (2, 3)
    assert sound(saved[-1])


@pytest.mark.mounts
def test_a_disk_that_fills_up_in_the_middle_of_a_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    devices.use_one_thread()
    given = saving_each_step(brightness_classes(tmp_path / "data"), 5)
    whole = Trained(tmp_path, "at_0", given)
    with SmallDisk(tmp_path / "disk") as disk:
        ballast = disk.path / "ballast"
        second = disk.path / "at_1" / "checkpoints" / "step-00000002.safetensors"

        def fill_after_the_second_step() -> bool:
            # Asked after each step.
            if second.exists() and not ballast.exists():
                disk.fill()
                os.truncate(ballast, ballast.stat().st_size - LITTLE_BYTES)
            return False

        failed = Trained(disk.path, "at_1", given, fill_after_the_second_step)
        assert (failed.ended["outcome"], failed.ended["reason"]) == ("FAILED", "END_REASON_INFRASTRUCTURE")
        assert "No space left on device" in failed.ended["message"]
        assert failed.ended["steps"] == 5, "only the last checkpoint is worth a training"
        last = failed.of("checkpoint")[-1]["checkpoint"]
        assert (last["step"], failed.files()) == (2, {last["name"]})
        assert sound(last)
        assert not list((failed.directory / "checkpoints").glob(".*")), "nothing half is left behind"
        disk.free()
        resumed = Trained(disk.path, "at_2", again(given, failed, 2))
        assert resumed.ended["outcome"] == "FINISHED", resumed.ended
        one, other = (load_file(trained.checkpoint(5)["path"]) for trained in (whole, resumed))
        assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_last_checkpoint_that_was_told(tmp_path: Path) -> None:
    devices.use_one_thread()
    given = saving_each_step(brightness_classes(tmp_path / "data"), 100_000)
    with TrainerProcess(tmp_path / "at_1") as trainer:
        trainer.until("ready", TIMEOUT_S)
        trainer.release(given)
        for _ in range(7):
            told = trainer.until("checkpoint", TIMEOUT_S)["checkpoint"]
        trainer.process.kill()
        trainer.process.wait()
    # What was told is durable, and stays until a later one is told.
    kept = sorted((tmp_path / "at_1" / "checkpoints").glob("step-*.safetensors"))
    assert Path(told["path"]) in kept or kept[-1].name > told["name"]
    resume = training_pb2.ResumeFrom(attempt_id="at_1", checkpoint=kept[-1].name)
    given.spec.resume_from.CopyFrom(resume)
    given.spec.limits.steps = int(kept[-1].stem.removeprefix("step-")) + 2
    resumed = Trained(tmp_path, "at_2", given)
    assert resumed.ended["outcome"] == "FINISHED", resumed.ended
