"""Attempts in this process: the whole training without its keeper."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import json_format
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.trainer import attempt, checkpoints, devices
from runner_agent.trainer.control import Control, Release
from runner_agent.trainer.datasets import loading
from runner_agent.trainer.models import registry
from runner_agent.trainer.pixels import DEVIATION, MEAN
from tests.support.trainer_process import assignment


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    devices.use_one_thread()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three classes that differ in brightness, 40 images each."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("black", "grey", "white")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(40):
            pixels = generator.integers(label * 80, label * 80 + 90, (12, 12), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index:02d}.png")
    return tmp_path / "data"


def small(dataset: Path, epochs: int = 3) -> session_pb2.Assignment:
    attempt = assignment(dataset, epochs)
    attempt.spec.hyperparameters.CopyFrom(training_pb2.Hyperparameters(batch_size=16, image_size=16, seed=3))
    return attempt


class Told:
    """What one attempt told and left behind."""

    def __init__(
        self,
        directory: Path,
        given: session_pb2.Assignment,
        *,
        stopped: Callable[[], bool] = lambda: False,
        simulated: bool = True,
    ) -> None:
        directory.mkdir()
        self.directory = directory
        text = json_format.MessageToJson(given, preserving_proto_field_name=True)
        (directory / "assignment.json").write_text(text)
        descriptor = os.open(directory / "control", os.O_WRONLY | os.O_CREAT)
        attempt.run(Release("a1", "j1", directory, simulated, ("GPU-0",)), Control(descriptor), stopped)
        os.close(descriptor)
        self.events = [json.loads(line) for line in (directory / "control").read_text().splitlines()]
        self.ended: dict[str, Any] = self.events[-1]
        assert self.ended["event"] == "ended"

    @property
    def measured(self) -> list[dict[str, Any]]:
        """The spool without its wall-clock times."""
        lines = (self.directory / "spool" / "trainer.jsonl").read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key != "at_ms"} for line in lines]

    @property
    def checkpoints(self) -> set[str]:
        return {path.name for path in (self.directory / "checkpoints").iterdir()}

    def of(self, event: str) -> list[dict[str, Any]]:
        return [told for told in self.events if told["event"] == event]


def test_the_same_seed_gives_the_same_training_to_the_last_digit(tmp_path: Path, dataset: Path) -> None:
    first, second = (Told(tmp_path / name, small(dataset)) for name in ("first", "second"))
    assert first.ended["outcome"] == "FINISHED"
    assert first.measured == second.measured
    other = small(dataset)
    other.spec.hyperparameters.seed = 4
    assert Told(tmp_path / "other", other).measured != first.measured


def test_images_that_do_not_fit_in_memory_give_the_same_training(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = Told(tmp_path / "memory", small(dataset))
    monkeypatch.setattr(loading, "MAX_DECODED_BYTES", 0)
    from_disk = Told(tmp_path / "disk", small(dataset))
    assert from_disk.ended["outcome"] == "FINISHED", from_disk.ended
    assert from_disk.measured == in_memory.measured


def test_an_image_that_breaks_while_it_is_needed_is_the_datasets_fault(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MAX_DECODED_BYTES", 0)
    looked = 0

    def break_after_start() -> bool:
        # Asked once between start and the first step, and once after each step.
        nonlocal looked
        looked += (tmp_path / "told" / "spool" / "trainer.jsonl").stat().st_size > 0
        if looked == 1:
            (dataset / "grey" / "07.png").write_bytes(b"broken")
        return False

    told = Told(tmp_path / "told", small(dataset, epochs=50), stopped=break_after_start)
    assert (told.ended["outcome"], told.ended["reason"]) == ("FAILED", "END_REASON_DATASET")
    assert "grey/07.png" in told.ended["message"]
    assert told.ended["steps"] > 0


def test_a_stop_is_obeyed_after_the_step_and_its_state_is_saved(tmp_path: Path, dataset: Path) -> None:
    spool = tmp_path / "told" / "spool" / "trainer.jsonl"
    told = Told(
        tmp_path / "told", small(dataset, epochs=1000), stopped=lambda: spool.exists() and bool(spool.stat().st_size)
    )
    assert told.ended["outcome"] == "KILLED"
    assert told.ended["steps"] == 1
    (saved,) = told.of("checkpoint")
    assert saved["checkpoint"]["step"] == 1
    assert saved["checkpoint"]["metrics"] == {}
    assert told.checkpoints == {saved["checkpoint"]["name"]}


def test_a_stop_while_the_images_are_read_ends_before_anything_is_charged(tmp_path: Path, dataset: Path) -> None:
    told = Told(tmp_path / "told", small(dataset), stopped=lambda: True)
    assert [event["event"] for event in told.events] == ["ended"]
    assert told.ended["outcome"] == "KILLED"


def test_a_checkpoint_predicts_what_its_evaluation_told(tmp_path: Path, dataset: Path) -> None:
    given = small(dataset, epochs=2)
    given.spec.hyperparameters.learning_rate = 1e-4
    given.spec.advanced_evaluation.confusion_matrix = True
    told = Told(tmp_path / "told", given)
    checkpoint = told.of("checkpoint")[-1]["checkpoint"]
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in load_file(checkpoint["path"]).items()
        if name.startswith("model.")
    }
    model = registry.build("resnet", given.spec.architecture.config_json, 3, 16).eval()
    model.load_state_dict(weights)
    paths = sorted(dataset.rglob("*.png"))
    truth = [sorted(path.name for path in dataset.iterdir()).index(path.parent.name) for path in paths]
    _, held_out = loading.split(truth, set(), 0.2, 3)
    counts = np.zeros((3, 3), int)
    for index in held_out:
        scan = Image.open(paths[index]).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
        image = torch.tensor((np.asarray(scan) / 255 - MEAN) / DEVIATION, dtype=torch.float32).permute(2, 0, 1)
        counts[int(model.outputs(image[None])[0].argmax()), truth[index]] += 1
    evaluation = told.measured[-1]["evaluation"]
    assert evaluation["confusion_matrix"]["counts"] == counts.flatten().tolist()
    assert checkpoint["metrics"]["validation/accuracy"] == np.trace(counts) / len(held_out)
    assert 0 < np.trace(counts) < len(held_out), "a matrix of only right answers would not show which way it lies"


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (training_pb2.CHECKPOINT_POLICY_LATEST, 1),
        (training_pb2.CHECKPOINT_POLICY_EVERY_N_EVALUATIONS, 4),
        (training_pb2.CHECKPOINT_POLICY_BEST_METRIC, 2),
    ],
)
def test_what_is_kept_is_what_was_told_and_not_removed(tmp_path: Path, dataset: Path, policy: int, kept: int) -> None:
    given = small(dataset, epochs=5)
    given.spec.checkpoint_strategy.policy = policy  # type: ignore[assignment]
    given.spec.checkpoint_strategy.evaluation_interval_steps = 4
    given.spec.checkpoint_strategy.every_n_evaluations = 2
    given.spec.checkpoint_strategy.keep_best = 2
    told = Told(tmp_path / "told", given)
    names = {event["checkpoint"]["name"] for event in told.of("checkpoint")}
    removed = {name for event in told.of("checkpoint") for name in event["checkpoint"]["removed"]}
    assert told.checkpoints == names - removed
    # 30 steps: evaluations at 4, 8 … 28 and at the end; the newest may be among the best two.
    assert len(told.of("evaluation")) == 8
    assert kept <= len(told.checkpoints) <= kept + (policy == training_pb2.CHECKPOINT_POLICY_BEST_METRIC)
    assert "step-00000030.safetensors" in told.checkpoints


def test_patience_ends_a_training_that_no_longer_improves(tmp_path: Path, dataset: Path) -> None:
    given = small(dataset, epochs=1000)
    given.spec.limits.early_stopping_patience = 2
    told = Told(tmp_path / "told", given)
    assert told.ended["outcome"] == "FINISHED"
    assert "without further improvement" in told.ended["message"]
    accuracies = [event["metrics"]["validation/accuracy"] for event in told.of("evaluation")]
    assert max(accuracies[:-2]) >= max(accuracies[-2:])
    assert told.of("checkpoint")[-1]["checkpoint"]["step"] == told.ended["steps"]


def test_a_step_limit_ends_a_training_within_an_epoch(tmp_path: Path, dataset: Path) -> None:
    given = small(dataset, epochs=0)
    given.spec.limits.steps = 8
    told = Told(tmp_path / "told", given)
    assert (told.ended["outcome"], told.ended["steps"], told.ended["epochs"]) == ("FINISHED", 8, 1)


def test_broken_images_are_skipped_with_a_warning_or_refused_by_name(
    tmp_path: Path, dataset: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (dataset / "black" / "00.png").write_bytes(b"")
    told = Told(tmp_path / "one", small(dataset))
    assert told.ended["outcome"] == "FINISHED"
    assert "warning: black/00.png is empty; it is skipped" in capfd.readouterr().out
    (dataset / "grey" / "00.png").write_text("no image")
    told = Told(tmp_path / "two", small(dataset))
    assert (told.ended["outcome"], told.ended["reason"]) == ("FAILED", "END_REASON_DATASET")
    assert "black/00.png is empty: 2 of 120 images" in told.ended["message"]
    assert not told.of("started")


@pytest.mark.parametrize(
    ("change", "reason", "told"),
    [
        ({"spec": {"dataset": {"location": "/nowhere"}}}, "END_REASON_DATASET", "/nowhere cannot be opened"),
        ({"spec": {"architecture": {"family": "unet"}}}, "END_REASON_CONFIGURATION", "family unet is unknown"),
        ({"spec": {"limits": {"epochs": -1}}}, "END_REASON_CONFIGURATION", "epochs is -1"),
    ],
)
def test_a_request_that_cannot_be_trained_fails_in_one_sentence_before_it_is_charged(
    tmp_path: Path, dataset: Path, change: dict[str, Any], reason: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given = small(dataset)
    given.MergeFrom(json_format.ParseDict(change, session_pb2.Assignment()))
    found = Told(tmp_path / "told", given)
    assert (found.ended["outcome"], found.ended["reason"]) == ("FAILED", reason)
    assert told in found.ended["message"]
    assert not found.of("started")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this box has a GPU that torch can use")
def test_real_gpus_that_torch_cannot_use_never_become_a_training_on_the_cpu(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = Told(tmp_path / "told", small(dataset), simulated=False)
    assert (found.ended["outcome"], found.ended["reason"]) == ("FAILED", "END_REASON_INFRASTRUCTURE")
    assert f"torch {torch.__version__}" in found.ended["message"]
    assert "driver" in found.ended["message"]
    assert not found.of("started")


def test_a_disk_that_refuses_the_records_does_not_end_the_training(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    spool = tmp_path / "told" / "spool" / "trainer.jsonl"

    def write(descriptor: int, content: bytes, offset: int) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == spool:
            raise OSError(28, "No space left on device")
        return real(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", write)
    found = Told(tmp_path / "told", small(dataset))
    assert found.ended["outcome"] == "FINISHED"
    lost = {(loss["kind"], loss["cause"]) for loss in found.of("dropped")}
    assert lost == {("metric points", "disk"), ("evaluations", "disk")}
    assert found.of("evaluation"), "told as a fact all the same"


def test_a_last_checkpoint_that_has_no_room_is_the_boxs_fault(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_file(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", save_file)
    found = Told(tmp_path / "told", small(dataset))
    assert (found.ended["outcome"], found.ended["reason"]) == ("FAILED", "END_REASON_INFRASTRUCTURE")
    assert "No space left on device" in found.ended["message"]
