"""All three tasks: what holds for a training whatever it learns."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from protos.common.v1 import inventory_pb2
from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.trainer import batch_trials, devices
from tests.bench.process_cost import cpu_s
from tests.support import tasks
from tests.support.trained import Trained, again

EVERY_N = training_pb2.CHECKPOINT_POLICY_EVERY_N_EVALUATIONS
METRICS = {tasks.CLASSIFICATION: "accuracy", tasks.DETECTION: "map", tasks.SEGMENTATION: "miou"}
NAMES = {tasks.CLASSIFICATION: "accuracy", tasks.DETECTION: "mAP", tasks.SEGMENTATION: "mIoU"}

OVERFIT_S = 120
VIT = '{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}'


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.use_one_thread()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """The first images of a task's sample."""
    folder = tmp_path_factory.mktemp("samples")

    def sample(architecture_id: str, images: int) -> Path:
        whole, part = folder / architecture_id, folder / f"{architecture_id}-{images}"
        if not whole.exists():
            tasks.write(architecture_id, whole)
        return part if part.exists() else tasks.first(architecture_id, whole, part, images)

    return sample


def short(architecture_id: str, location: Path) -> session_pb2.Assignment:
    """Six steps of eight images in three uneven parts each, everything random on; evaluated and saved every other."""
    given = tasks.training(architecture_id, location, steps=6)
    given.spec.hyperparameters.CopyFrom(
        training_pb2.Hyperparameters(batch_size=8, accumulate_batches=3, image_size=32, seed=5)
    )
    given.spec.augmentations.CopyFrom(tasks.AUGMENTED)
    given.spec.checkpoint_strategy.policy = EVERY_N
    given.spec.checkpoint_strategy.evaluation_interval_steps = 2
    return given


@pytest.mark.parametrize("architecture_id", tasks.ALL)
def test_a_training_that_goes_on_ends_with_the_same_bits_as_one_that_was_never_interrupted(
    tmp_path: Path, samples: Callable[[str, int], Path], architecture_id: str
) -> None:
    given = short(architecture_id, samples(architecture_id, 20))
    whole = Trained(tmp_path, "at_1", given)
    assert whole.ended["outcome"] == "FINISHED", whole.ended
    assert f"epochs): {NAMES[architecture_id]} " in whole.ended["message"]
    assert f"validation/{METRICS[architecture_id]}" in whole.ended["metrics"]
    # Whatever was drawn in between: a process that goes on is another one.
    torch.rand(11)
    resumed = Trained(tmp_path, "at_2", again(given, whole, 2))
    assert resumed.measured(after=2) == whole.measured(after=2)
    one, other = (load_file(trained.checkpoint(6)["path"]) for trained in (whole, resumed))
    assert one.keys() == other.keys()
    assert {name for name in one if not torch.equal(one[name], other[name])} == set()


@pytest.mark.parametrize("architecture_id", tasks.ALL)
def test_augmentations_change_what_is_trained_on(
    tmp_path: Path, samples: Callable[[str, int], Path], architecture_id: str
) -> None:
    given = short(architecture_id, samples(architecture_id, 20))
    given.spec.limits.CopyFrom(training_pb2.Limits(steps=1))
    augmented = Trained(tmp_path, "at_1", given)
    given.spec.augmentations.Clear()
    plain = Trained(tmp_path, "at_2", given)
    assert plain.losses() != augmented.losses()


def test_parts_of_a_batch_train_as_the_whole_batch_does(tmp_path: Path, samples: Callable[[str, int], Path]) -> None:
    """Of a network that looks at each image by itself; batch normalisation does not."""
    given = tasks.training(tasks.CLASSIFICATION, samples(tasks.CLASSIFICATION, 20), steps=3)
    given.spec.architecture.family = "vit"
    given.spec.architecture.config_json = VIT
    given.spec.hyperparameters.CopyFrom(training_pb2.Hyperparameters(batch_size=7, image_size=16))
    whole = Trained(tmp_path, "at_1", given)
    given.spec.hyperparameters.accumulate_batches = 3
    parts = Trained(tmp_path, "at_2", given)
    assert parts.losses() == pytest.approx(whole.losses(), rel=1e-4)
    one, other = (load_file(trained.checkpoint(3)["path"]) for trained in (whole, parts))
    moments = [name for name in one if name.endswith("exp_avg")]
    assert moments
    for name in moments:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("architecture_id", tasks.ALL)
def test_bfloat16_trains_to_nearly_the_same_losses(
    tmp_path: Path, samples: Callable[[str, int], Path], architecture_id: str
) -> None:
    given = tasks.training(architecture_id, samples(architecture_id, 20), steps=3)
    given.spec.hyperparameters.batch_size = 8
    full = Trained(tmp_path, "at_1", given)
    given.spec.hyperparameters.precision = training_pb2.PRECISION_BFLOAT16
    mixed = Trained(tmp_path, "at_2", given)
    assert mixed.ended["outcome"] == "FINISHED", mixed.ended
    assert mixed.losses() != full.losses()
    assert mixed.losses()[0] == pytest.approx(full.losses()[0], rel=0.05)
    assert all(math.isfinite(loss) for loss in mixed.losses())


def test_gradients_are_clipped_to_the_norm_and_float16_is_refused_without_a_gpu(
    tmp_path: Path, samples: Callable[[str, int], Path]
) -> None:
    given = tasks.training(tasks.CLASSIFICATION, samples(tasks.CLASSIFICATION, 20), steps=1)
    given.spec.hyperparameters.CopyFrom(
        training_pb2.Hyperparameters(batch_size=8, gradient_clip_norm=0.01, optimizer=training_pb2.OPTIMIZER_SGD)
    )
    clipped = Trained(tmp_path, "at_1", given)
    moments = {
        name: tensor
        for name, tensor in load_file(clipped.checkpoint(1)["path"]).items()
        if name.endswith("momentum_buffer")
    }
    # Weights that are decayed add to what the optimiser takes for their gradient.
    weightless = [tensor for tensor in moments.values() if tensor.ndim == 1]
    assert 0 < float(torch.stack([tensor.square().sum() for tensor in weightless]).sum().sqrt()) <= 0.01
    given.spec.hyperparameters.precision = training_pb2.PRECISION_FLOAT16
    refused = Trained(tmp_path, "at_2", given)
    assert refused.ended["reason"] == "END_REASON_CONFIGURATION"
    assert "float16 needs a real GPU" in refused.ended["message"]


def test_a_checkpoint_of_another_job_is_gone_on_from_and_left_alone(
    tmp_path: Path, samples: Callable[[str, int], Path]
) -> None:
    given = short(tasks.CLASSIFICATION, samples(tasks.CLASSIFICATION, 20))
    whole = Trained(tmp_path, "at_1", given)
    given.spec.checkpoint_strategy.policy = training_pb2.CHECKPOINT_POLICY_LATEST
    other = again(given, whole, 4)
    other.spec.resume_from.job_id = "job_of_at_1"
    resumed = Trained(tmp_path, "at_2", other)
    assert resumed.measured(after=4) == whole.measured(after=4)
    assert {told["checkpoint"]["name"] for told in resumed.of("checkpoint")} == resumed.files()
    assert all(told["checkpoint"]["removed"] == [] for told in resumed.of("checkpoint"))
    assert len(whole.files()) == 3, "those of the other job stay"

    # Fetched from the platform, where the box that saved it is another one.
    inputs = tmp_path / "at_3" / "inputs"
    inputs.mkdir(parents=True)
    saved = Path(whole.checkpoint(4)["path"])
    saved.rename(inputs / saved.name)
    fetched = Trained(tmp_path, "at_3", other)
    assert fetched.measured(after=4) == whole.measured(after=4)


def simulated_box(folder: Path, vram_bytes: int) -> Path:
    """The folder for the attempts of a box with one simulated GPU."""
    inventory = inventory_pb2.Inventory(simulated=True, gpus=[inventory_pb2.Gpu(vram_bytes=vram_bytes)])
    (folder / "attempts").mkdir(parents=True)
    (folder / "inventory.pb").write_bytes(inventory.SerializeToString())
    return folder / "attempts"


def test_auto_finds_what_fits_into_a_share_of_the_gpu_and_keeps_it(
    tmp_path: Path, samples: Callable[[str, int], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    given = tasks.training(tasks.CLASSIFICATION, samples(tasks.CLASSIFICATION, 300), steps=4)
    given.spec.hyperparameters.batch_size = -1
    given.spec.checkpoint_strategy.policy = EVERY_N
    given.spec.checkpoint_strategy.evaluation_interval_steps = 2
    few, many = batch_trials.computed_peaks(given.spec.architecture, 32) or (0, 0)
    each = (many - few) / (batch_trials.MANY - batch_trials.FEW)
    # Between what 16 and what 17 images take.
    box = simulated_box(tmp_path / "small", int((few + (16.5 - batch_trials.FEW) * each) / 0.6))
    found = Trained(box, "at_1", given)
    assert [told["batch_size"] for told in found.of("started")] == [16]
    assert "batch size auto: 16, the largest whose steps fit into 60% of" in capfd.readouterr().out
    larger = Trained(simulated_box(tmp_path / "large", 1 << 34), "at_1", given)
    assert [told["batch_size"] for told in larger.of("started")] == [64], "so that an epoch has its steps"
    assert larger.losses() != found.losses()

    # The box now has another GPU, but the training is the same one.
    repeated = again(given, found, 2)
    inventory = simulated_box(tmp_path / "other", 1 << 34).parent / "inventory.pb"
    (box.parent / "inventory.pb").write_bytes(inventory.read_bytes())
    resumed = Trained(box, "at_2", repeated)
    assert [told["batch_size"] for told in resumed.of("started")] == [16]
    assert resumed.measured(after=2) == found.measured(after=2)

    given.spec.hyperparameters.auto_batch_vram_share = 1e-6
    failed = Trained(box, "at_3", given)
    assert failed.ended["reason"] == "END_REASON_OUT_OF_MEMORY"
    assert "not even one image of 32 pixels" in failed.ended["message"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("architecture_id", "steps"),
    [
        (tasks.CLASSIFICATION, 60),
        pytest.param(tasks.DETECTION, 250, marks=pytest.mark.slow),
        pytest.param(tasks.SEGMENTATION, 150, marks=pytest.mark.slow),
    ],
)
def test_a_tiny_configuration_learns_sixteen_images_by_heart(
    tmp_path: Path, samples: Callable[[str, int], Path], architecture_id: str, steps: int
) -> None:
    # Four of the twenty are for validation.
    given = tasks.training(architecture_id, samples(architecture_id, 20), steps=steps)
    given.spec.hyperparameters.CopyFrom(training_pb2.Hyperparameters(batch_size=16))
    given.spec.checkpoint_strategy.evaluation_interval_steps = steps
    began_s = cpu_s(os.getpid())
    trained = Trained(tmp_path, "at_1", given)
    took_s = cpu_s(os.getpid()) - began_s
    losses = trained.losses()
    assert min(losses) <= losses[0] / 10, f"from {losses[0]:.3f} to {min(losses):.3f}"
    assert took_s <= OVERFIT_S
