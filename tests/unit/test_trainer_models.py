"""Every family of architectures: built, trained one step, decoded, refused."""

import json
from typing import Any

import pytest
import torch

from protos.training.v1 import training_pb2
from runner_agent.trainer.batch import NOT_LABELLED, Boxes, Targets
from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models import inputs, registry
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.models.detector import QueryDetector
from runner_agent.trainer.pixels import DEVIATION, MEAN
from services.scheduler.catalogue import ARCHITECTURES, read_architectures

_HGNET = {
    "hidden_sizes": [16, 32, 32, 32],
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 32, 32],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 32, 32, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_downsample": [False, True, True, True],
    "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 3, 3],
    "stage_numb_of_layers": [1, 1, 1, 1],
}
_QUERIES = {
    "encoder_hidden_dim": 16,
    "d_model": 16,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "decoder_in_channels": [16, 16, 16],
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "decoder_layers": 2,
    "num_queries": 12,
    # Not 1.0: JSON does not tell them apart.
    "hidden_expansion": 1,
    "num_denoising": 6,
}
SMALL: dict[str, dict[str, Any]] = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "convnext": {"depths": [1, 1], "hidden_sizes": [8, 16]},
    "vit": {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "mobilenet_v2": {"depth_multiplier": 0.35},
    "segformer": {
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 8, 16, 16],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16,
    },
    "rt_detr_v2": {
        **_QUERIES,
        "encoder_in_channels": [8, 16, 16],
        "backbone": {
            "embedding_size": 8,
            "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        },
    },
    "d_fine": {**_QUERIES, "encoder_in_channels": [32, 32, 32], "backbone": _HGNET},
}
SIZE, CLASSES = 64, 3


def small(family: str, classes: int = CLASSES, image_size: int = SIZE) -> Model:
    torch.manual_seed(0)
    return registry.build(family, json.dumps(SMALL[family]), classes, image_size).train()


def boxes(number: int, crowd: bool = False) -> Boxes:
    corner = torch.rand(number, 2) * 0.5
    found = torch.cat([corner, corner + 0.1 + torch.rand(number, 2) * 0.4], 1)
    return Boxes(found, torch.arange(number) % CLASSES, torch.full((number,), crowd))


def targets(family: str) -> Targets:
    task, _ = registry.FAMILIES[family]
    if task == training_pb2.TASK_DETECTION:
        # The third image shows nothing.
        return boxes(2), boxes(1), boxes(0)
    if task == training_pb2.TASK_SEGMENTATION:
        return torch.randint(0, CLASSES, (3, SIZE, SIZE), dtype=torch.uint8)
    return torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("family", "half"),
    [*((family, False) for family in sorted(registry.FAMILIES)), ("rt_detr_v2", True), ("segformer", True)],
)
def test_a_step_of_each_family_gives_every_parameter_a_gradient(family: str, half: bool) -> None:
    model, pixels = small(family), torch.randn(3, 3, SIZE, SIZE)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss, raw = model(pixels, targets(family))
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    silent = [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None]
    assert not silent
    assert all(output.shape[0] == 3 for output in raw)


@pytest.mark.parametrize("family", sorted(registry.FAMILIES))
def test_predictions_of_each_family_are_in_their_range(family: str) -> None:
    model = small(family).eval()
    with torch.no_grad():
        raw = model.outputs(torch.randn(2, 3, SIZE, SIZE))
    found = model.decode(raw)
    if isinstance(found, torch.Tensor) and found.dtype == torch.uint8:
        assert found.shape == (2, SIZE, SIZE)
        assert int(found.max()) < CLASSES
    elif isinstance(found, torch.Tensor):
        assert torch.allclose(found.sum(1), torch.ones(2))
    else:
        for one in found:
            assert one.boxes.shape == (len(one.scores), 4)
            assert bool((one.boxes >= 0).all() and (one.boxes <= 1).all())
            assert int(one.labels.max()) < CLASSES
            assert torch.equal(one.scores, one.scores.sort(descending=True).values)


@pytest.mark.parametrize("family", ["rt_detr_v2", "d_fine"])
def test_a_batch_without_a_single_box_trains_all_parameters_too(family: str) -> None:
    model = small(family)
    loss, _ = model(torch.randn(2, 3, SIZE, SIZE), (boxes(0), boxes(2, crowd=True)))
    torch.autograd.backward(loss)
    assert loss.isfinite()
    assert not [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None]


def test_boxes_of_a_crowd_are_not_trained_on() -> None:
    model, pixels = small("rt_detr_v2").eval(), torch.randn(1, 3, SIZE, SIZE)
    one = boxes(1)
    with_crowd = Boxes(
        torch.cat([one.boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]])]), torch.tensor([0, 1]), torch.tensor([False, True])
    )
    with torch.no_grad():
        assert torch.equal(model(pixels, (one,))[0], model(pixels, (with_crowd,))[0])


def test_a_detector_whose_weights_have_diverged_tells_it_by_its_loss() -> None:
    model = small("rt_detr_v2")
    assert isinstance(model, QueryDetector)
    with torch.no_grad():
        model.network.decoder.bbox_embed[0].layers[-1].bias.fill_(torch.nan)
    loss, _ = model(torch.randn(1, 3, SIZE, SIZE), (boxes(1),))
    assert loss.isnan()


def test_pixels_without_a_label_do_not_count_and_a_batch_of_them_has_no_loss() -> None:
    model, pixels = small("segformer").eval(), torch.randn(1, 3, SIZE, SIZE)
    half = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    half[:, 32:] = NOT_LABELLED
    with torch.no_grad():
        loss, (logits,) = model(pixels, half)
        expected = torch.nn.functional.cross_entropy(logits[:, :, :32], half[:, :32].long())
        assert torch.allclose(loss, expected, atol=1e-6)
        assert model(pixels, torch.full_like(half, NOT_LABELLED))[0] == 0


def test_the_best_300_of_all_queries_and_classes_are_predicted() -> None:
    logits = torch.randn(1, 200, CLASSES)
    (found,) = small("rt_detr_v2").decode((logits, torch.full((1, 200, 4), 0.5)))
    assert len(found.scores) == 300
    assert torch.allclose(found.scores, logits.flatten().sigmoid().sort(descending=True).values[:300])
    assert torch.allclose(found.boxes[0], torch.tensor([0.25, 0.25, 0.75, 0.75]))


def test_pixels_are_rescaled_to_what_published_weights_expect() -> None:
    grey = torch.full((1, 3, 2, 2), 0.25)
    ours = (grey - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
    assert torch.allclose(inputs.from_zero_to_one()(ours), grey, atol=1e-6)
    assert torch.allclose(inputs.from_minus_one_to_one()(ours), 2 * grey - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "image_size", "told"),
    [
        ("vit", 100, "multiples of 16 pixels.*image_size is 100; choose 96"),
        ("rt_detr_v2", 50, "choose 64"),
        ("d_fine", 8, "choose 32"),
        ("segformer", 16, "choose 32"),
        ("mobilenet_v2", 16, "choose 32"),
        ("convnext", 2, "choose 8"),
    ],
)
def test_an_image_size_that_a_family_cannot_take_is_refused_with_the_nearest(
    family: str, image_size: int, told: str
) -> None:
    with pytest.raises(ConfigurationFailure, match=told):
        small(family, image_size=image_size)


@pytest.mark.parametrize("family", sorted(registry.FAMILIES))
def test_a_setting_that_a_family_does_not_have_is_named(family: str) -> None:
    with pytest.raises(ConfigurationFailure, match="has no setting colour"):
        registry.build(family, json.dumps({**SMALL[family], "colour": 1}), CLASSES, SIZE)


def test_a_setting_that_a_detectors_backbone_does_not_have_is_named() -> None:
    config = {**SMALL["d_fine"], "backbone": {"depth": 1}}
    with pytest.raises(ConfigurationFailure, match="d_fine's backbone has no setting depth"):
        registry.build("d_fine", json.dumps(config), CLASSES, SIZE)


def test_the_catalogue_names_only_families_that_there_are_and_says_what_each_needs() -> None:
    for one in read_architectures(ARCHITECTURES).values():
        task, _ = registry.FAMILIES[one.family]
        needs = one.requirements
        assert one.task == task
        assert (needs.batch_size, needs.image_size) == (one.defaults.batch_size, one.defaults.image_size)
        assert 0 < needs.peak_vram_bytes < needs.min_gpu_vram_bytes <= needs.recommended_gpu_vram_bytes
        assert 0 < needs.min_cpu_ram_bytes <= needs.recommended_cpu_ram_bytes
        assert one.parameters > 0
        assert one.default_epochs > 0


@pytest.mark.slow
def test_each_architecture_of_the_catalogue_can_be_built_at_its_image_size() -> None:
    for one in read_architectures(ARCHITECTURES).values():
        registry.build(one.family, one.config_json, CLASSES, one.defaults.image_size)
