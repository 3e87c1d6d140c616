"""Several GPUs: as many processes, which train what one would have trained. Here on two CPU processes, over gloo."""

from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.trainer import devices
from tests.support import tasks
from tests.support.eventually import eventually
from tests.support.trained import Trained, again
from tests.support.trainer_process import TrainerProcess

# Start of torch in two processes, one after the other.
START_TIMEOUT_S = 120.0
# No batch normalisation, which would see half a batch in each process.
VIT = '{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}'
MODULE = "tests.support.two_process_trainer"


def given(folder: Path, *, steps: int) -> session_pb2.Assignment:
    whole = tasks.write(tasks.CLASSIFICATION, folder / "whole")
    one = tasks.training(
        tasks.CLASSIFICATION, tasks.first(tasks.CLASSIFICATION, whole, folder / "data", 41), steps=steps
    )
    one.spec.architecture.family, one.spec.architecture.config_json = "vit", VIT
    # Shares of 4 and 3 images, in parts of 2, 2 and 2, 1.
    one.spec.hyperparameters.CopyFrom(training_pb2.Hyperparameters(batch_size=7, image_size=16, accumulate_batches=2))
    one.spec.checkpoint_strategy.policy = training_pb2.CHECKPOINT_POLICY_EVERY_N_EVALUATIONS
    one.spec.checkpoint_strategy.evaluation_interval_steps = 3
    one.spec.advanced_evaluation.confusion_matrix = True
    return one


def saved(path: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_file(path).items() if "exp_avg" in name}


@pytest.mark.slow
def test_two_processes_train_and_measure_what_one_does(tmp_path: Path) -> None:
    devices.use_one_thread()
    wanted = given(tmp_path, steps=6)
    alone = Trained(tmp_path, "at_1", wanted)
    with TrainerProcess(tmp_path / "at_2", MODULE) as trainer:
        trainer.until("ready", START_TIMEOUT_S)
        trainer.release(wanted)
        ended = trainer.until("ended", START_TIMEOUT_S)
        assert trainer.process.wait(timeout=30) == 0
        assert trainer.errors() == ""
    assert (ended["outcome"], ended["steps"]) == ("FINISHED", 6), ended
    (started,) = trainer.told("started")
    assert started["batch_size"] == 7
    for name, value in alone.ended["metrics"].items():
        assert ended["metrics"][name] == pytest.approx(value, rel=1e-3), name
    together = [told["checkpoint"] for told in trainer.told("checkpoint")]
    assert [one["step"] for one in together] == [3, 6]
    first, second = saved(alone.checkpoint(6)["path"]), saved(together[-1]["path"])
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=5e-3, atol=1e-6)
    evaluations = [record.evaluation for record in trainer.records() if record.HasField("evaluation")]
    assert [sum(one.confusion_matrix.counts) for one in evaluations] == [8, 8], "no image twice, and none left out"

    # What two have saved, one goes on from.
    resumed = again(wanted, alone, 3)
    resumed.spec.resume_from.attempt_id = "at_2"
    resumed.spec.resume_from.sha256 = together[0]["sha256"]
    on = Trained(tmp_path, "at_3", resumed)
    assert on.ended["metrics"]["validation/loss"] == pytest.approx(ended["metrics"]["validation/loss"], rel=1e-3)


@pytest.mark.slow
async def test_a_stop_ends_all_processes_after_the_same_step_and_a_kill_leaves_none(tmp_path: Path) -> None:
    wanted = given(tmp_path, steps=100_000)
    with TrainerProcess(tmp_path / "at_1", MODULE) as trainer:
        trainer.until("ready", START_TIMEOUT_S)
        trainer.release(wanted)
        trainer.until("evaluation", START_TIMEOUT_S)
        (follower,) = psutil.Process(trainer.process.pid).children()
        trainer.process.terminate()
        ended = trainer.until("ended", START_TIMEOUT_S)
        assert trainer.process.wait(timeout=30) == 0
        assert ended["outcome"] == "KILLED"
        assert trainer.told("checkpoint")[-1]["checkpoint"]["step"] == ended["steps"]
        await eventually(lambda: not follower.is_running() or follower.status() == psutil.STATUS_ZOMBIE, 30)
