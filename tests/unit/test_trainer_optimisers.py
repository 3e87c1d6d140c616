"""Optimiser, precision and batch size: what is chosen where nobody chooses, and what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from protos.training.v1 import training_pb2
from runner_agent.trainer import auto_batch, batch_trials, optimisers, precision
from runner_agent.trainer.batch import Batch, Boxes
from runner_agent.trainer.failures import ConfigurationFailure

T4, A10G, H100 = (7, 5), (8, 6), (9, 0)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("kind", "made"),
    [(training_pb2.OPTIMIZER_ADAMW, torch.optim.AdamW), (training_pb2.OPTIMIZER_SGD, torch.optim.SGD)],
)
def test_biases_and_normalisation_are_never_decayed(kind: int, made: type[torch.optim.Optimizer], fused: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[2].bias.requires_grad_(False)
    optimizer = optimisers.build(kind, model, 0.1, 0.3, fused=fused)
    assert type(optimizer) is made
    decay = {id(one): group["weight_decay"] for group in optimizer.param_groups for one in group["params"]}
    found = {name: decay.get(id(one)) for name, one in model.named_parameters()}
    assert found == {"0.weight": 0.3, "0.bias": 0, "1.weight": 0, "1.bias": 0, "2.weight": 0.3, "2.bias": None}
    assert all(group.get("momentum", 0.9) == 0.9 for group in optimizer.param_groups)


# torch warns of a scaler where there is no GPU; only what is chosen is asked here.
@pytest.mark.filterwarnings("ignore:.*GradScaler")
@pytest.mark.parametrize(
    ("asked", "capabilities", "found"),
    [
        (training_pb2.PRECISION_UNSPECIFIED, (), "32-true"),
        (training_pb2.PRECISION_UNSPECIFIED, (T4,), "32-true"),
        (training_pb2.PRECISION_UNSPECIFIED, (A10G, H100), "bf16-mixed"),
        (training_pb2.PRECISION_UNSPECIFIED, (A10G, T4), "32-true"),
        (training_pb2.PRECISION_FLOAT32, (H100,), "32-true"),
        (training_pb2.PRECISION_BFLOAT16, (), "bf16-mixed"),
        (training_pb2.PRECISION_FLOAT16, (T4,), "16-mixed"),
    ],
)
def test_the_precision_is_what_all_gpus_are_good_at(
    asked: int, capabilities: tuple[tuple[int, int], ...], found: str
) -> None:
    assert precision.plugin(asked, capabilities).precision == found


def test_a_precision_that_a_gpu_lacks_is_refused_with_what_it_has() -> None:
    with pytest.raises(ConfigurationFailure, match=r"have 7\.5; choose float16 or float32"):
        precision.plugin(training_pb2.PRECISION_BFLOAT16, (A10G, T4))
    with pytest.raises(ConfigurationFailure, match="simulated; choose bfloat16 or float32"):
        precision.plugin(training_pb2.PRECISION_FLOAT16, ())


@given(most=st.integers(1, 3000), limit=st.integers(1, 3000))
def test_the_largest_batch_fits_and_nothing_much_larger_would(most: int, limit: int) -> None:
    asked = []

    def fits(images: int) -> bool:
        asked.append(images)
        return images <= limit

    found = auto_batch.largest(fits, most)
    assert found <= min(limit, most)
    assert found > 7 / 8 * min(limit, most) - 1
    assert max(asked) <= most
    assert len(asked) <= 16
    assert sum(images > limit for images in asked) <= 4, "a step that does not fit is the expensive one"


def test_a_batch_of_which_not_one_image_fits_is_none() -> None:
    assert auto_batch.largest(lambda _: False, 1000) == 0


@pytest.mark.parametrize(
    ("train_images", "usual", "unit", "found"),
    [(1437, 64, 1, 179), (1437, 64, 2, 89), (100, 64, 1, 64), (10, 64, 1, 10), (10, 64, 16, 1), (100_000, 64, 8, 1562)],
)
def test_a_batch_leaves_an_epoch_its_steps(train_images: int, usual: int, unit: int, found: int) -> None:
    assert auto_batch.most(train_images, usual, unit) == found


def test_what_fits_is_read_off_the_line_through_two_computed_peaks() -> None:
    few, many = (1000 + 50 * images for images in (batch_trials.FEW, batch_trials.MANY))
    fits = batch_trials.along_a_line(few, many, 2000)
    assert [fits(images) for images in (1, 19, 20, 21)] == [True, True, True, False]


def test_a_trials_batch_repeats_real_images_with_what_is_in_them() -> None:
    found = [Boxes(torch.full((n, 4), 0.5), torch.full((n,), n), torch.zeros(n, dtype=torch.bool)) for n in (0, 2)]
    pixels = torch.arange(2, dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    trial = batch_trials.repeated(Batch((7, 9), pixels, tuple(found), torch.full((2, 2), 8)), 5)
    assert trial.indices == (7, 9, 7, 9, 7)
    assert trial.pixels[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert [len(one.labels) for one in trial.targets if isinstance(one, Boxes)] == [0, 2, 0, 2, 0]
    labels = batch_trials.repeated(Batch((7, 9), pixels, torch.tensor([3, 4]), torch.full((2, 2), 8)), 3).targets
    assert torch.equal(torch.as_tensor(labels), torch.tensor([3, 4, 3]))
