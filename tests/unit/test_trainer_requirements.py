"""Model Compute Requirements: recomputed, and the tracker checked against a count by hand."""

import tomllib

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from protos.training.v1 import training_pb2
from runner_agent.trainer import requirements
from runner_agent.trainer.requirements import Row
from services.scheduler.catalogue import ARCHITECTURES, read_architectures

GIB = 1 << 30
WIDTH, ROWS = 256, 512


@pytest.fixture(scope="module")
def hollow() -> FakeTensorMode:
    return FakeTensorMode()


@pytest.mark.parametrize("name", ["resnet-tiny", "segformer-nano"])
def test_a_row_of_the_catalogue_is_what_is_computed(name: str, hollow: FakeTensorMode) -> None:
    listed = read_architectures(ARCHITECTURES)[name]
    if listed.requirements.basis != training_pb2.REQUIREMENTS_BASIS_COMPUTED:
        pytest.skip("this row was measured on a GPU")
    row = requirements.compute(requirements.read(ARCHITECTURES)[name], hollow)
    assert row.parameters == listed.parameters
    # Kernels of other processors keep other tensors.
    assert row.peak_bytes == pytest.approx(listed.requirements.peak_vram_bytes, rel=0.1)
    assert row.requirements()["min_gpu_vram_bytes"] == listed.requirements.min_gpu_vram_bytes


def test_the_tracked_peak_is_that_of_a_count_by_hand() -> None:
    """Two linear layers: at the end of the forward pass of the second step there are weights, gradients of the first
    step, two moments and the activations; the backward pass adds the gradient of one activation or two."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
    numbers = sum(parameter.numel() for parameter in model.parameters())
    pixels = torch.zeros(ROWS, WIDTH)
    peak = requirements.tracked_peak(model, pixels, lambda: model(pixels).sum())
    # Weights, gradients, two moments; the input, and the outputs of three layers.
    by_hand = 4 * (4 * numbers + 4 * ROWS * WIDTH)
    assert by_hand <= peak * 1.1
    assert peak <= by_hand + 4 * 3 * ROWS * WIDTH


def test_the_minimum_is_the_peak_with_context_and_workspace_and_the_recommended_has_headroom() -> None:
    needs = Row(parameters=1_000_000, peak_bytes=4 * GIB, batch_size=8, image_size=64).requirements()
    # 4 x 1.1 + 0.75 and 4 x 1.5 + 0.75 GiB, up to the next half.
    assert needs["min_gpu_vram_bytes"] == 5.5 * GIB
    assert needs["recommended_gpu_vram_bytes"] == 7 * GIB
    # 0.5 + 0.5 + 0.5 GiB and 12 MB, up to the next half.
    assert needs["min_cpu_ram_bytes"] == 2 * GIB
    assert needs["recommended_cpu_ram_bytes"] == 3.5 * GIB
    assert needs["basis"] == "REQUIREMENTS_BASIS_COMPUTED"


def test_a_measured_row_says_on_which_gpu() -> None:
    needs = Row(1, GIB, 8, 64, measured_on="NVIDIA T4", context_bytes=GIB // 4).requirements()
    assert (needs["basis"], needs["measured_on"]) == ("REQUIREMENTS_BASIS_MEASURED", "NVIDIA T4")
    assert needs["min_gpu_vram_bytes"] == 2 * GIB


def test_writing_a_row_changes_its_two_lines_only() -> None:
    text = ARCHITECTURES.read_text()
    changed = requirements.written(text, "mobilenet-v2-1.0", Row(7, 2 * GIB, 3, 32, measured_on="NVIDIA T4"))
    before, after = tomllib.loads(text), tomllib.loads(changed)
    assert after["mobilenet-v2-1.0"]["parameters"] == 7
    assert after["mobilenet-v2-1.0"]["requirements"]["measured_on"] == "NVIDIA T4"
    assert after["mobilenet-v2-1.0"]["requirements"]["peak_vram_bytes"] == 2 * GIB
    assert {name for name in before if before[name] != after[name]} == {"mobilenet-v2-1.0"}
    assert sum(one != other for one, other in zip(text.splitlines(), changed.splitlines(), strict=True)) == 2
