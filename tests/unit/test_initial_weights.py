"""What a training begins with: weights added on the box, in the hub's cache, of a checkpoint, or random ones."""

import json
from pathlib import Path

import pytest
import torch
from google.protobuf.json_format import ParseDict
from huggingface_hub import constants
from safetensors.torch import save_file
from transformers import PreTrainedModel, RTDetrV2ForObjectDetection

from protos.training.v1 import training_pb2
from runner_agent import weights
from runner_agent.trainer.failures import ConfigurationFailure, InfrastructureFailure
from runner_agent.trainer.models import initial, pretrained
from runner_agent.trainer.models.base import Model
from tests.unit.test_trainer_models import SIZE, SMALL, small

HUB = "someone/resnet-small"
CLASSES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    folder = tmp_path / "runner" / "attempts" / "a1"
    folder.mkdir(parents=True)
    return folder


def published(folder: Path, family: str = "resnet", classes: int = 5, image_size: int = SIZE) -> Model:
    """A folder as transformers saves it, of a model that is returned."""
    model = small(family, classes, image_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    network = model.network
    assert isinstance(network, PreTrainedModel)
    network.save_pretrained(folder)
    return model


def spec(family: str = "resnet", **chosen: object) -> training_pb2.TrainingSpec:
    architecture = {"architecture_id": "small", "family": family, "config_json": json.dumps(SMALL[family])}
    return ParseDict(
        {"architecture": {**architecture, "pretrained": HUB}, "weights": chosen}, training_pb2.TrainingSpec()
    )


def in_cache(cache: Path, source: Path) -> None:
    """The layout of the hub's cache, with a revision."""
    folder = cache / f"models--{HUB.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123abcd")
    (folder / "snapshots" / "0123abcd").mkdir(parents=True)
    (source / "model.safetensors").rename(folder / "snapshots" / "0123abcd" / "model.safetensors")


def same(one: Model, other: Model, name: str) -> bool:
    return torch.equal(one.state_dict()[name], other.state_dict()[name])


STEM = "network.resnet.embedder.embedder.convolution.weight"
HEAD = "network.classifier.1.weight"


def test_weights_added_on_the_box_go_into_the_model_and_the_head_for_other_classes_stays_random(
    tmp_path: Path, attempt: Path
) -> None:
    source = published(tmp_path / "source")
    weights.add(tmp_path / "runner", HUB, tmp_path / "source")
    chosen = initial.choose(spec(), attempt, CLASSES, SIZE)
    assert (chosen.source, chosen.warnings) == ("WEIGHTS_SOURCE_PRETRAINED", ())
    assert chosen.description == f"{HUB}, added on this box"
    model = small("resnet")
    note = chosen.apply(model)
    assert "classifier.1.weight" in note
    assert same(model, source, STEM)
    assert model.state_dict()[HEAD].shape == (3, 16)


def test_a_head_for_as_many_classes_is_taken_over(tmp_path: Path, attempt: Path) -> None:
    source = published(tmp_path / "source", classes=3)
    weights.add(tmp_path / "runner", HUB, tmp_path / "source")
    model = small("resnet")
    assert initial.choose(spec(), attempt, CLASSES, SIZE).apply(model) == ""
    assert same(model, source, HEAD)


def test_weights_in_the_hubs_cache_are_found_by_their_name(tmp_path: Path, attempt: Path, cache: Path) -> None:
    source = published(tmp_path / "source")
    in_cache(cache, tmp_path / "source")
    chosen = initial.choose(spec(), attempt, CLASSES, SIZE)
    assert chosen.description == f"{HUB}, from the hub's cache"
    model = small("resnet")
    chosen.apply(model)
    assert same(model, source, STEM)


def test_without_pretrained_weights_it_begins_with_random_ones_and_says_how_to_add_them(attempt: Path) -> None:
    chosen = initial.choose(spec(), attempt, CLASSES, SIZE)
    assert (chosen.source, chosen.description) == ("WEIGHTS_SOURCE_RANDOM", "random")
    (warning,) = chosen.warnings
    assert f"tether-runner weights add {HUB} PATH" in warning


def test_random_weights_that_are_asked_for_need_no_warning(attempt: Path) -> None:
    chosen = initial.choose(spec(source="WEIGHTS_SOURCE_RANDOM"), attempt, CLASSES, SIZE)
    assert (chosen.source, chosen.warnings) == ("WEIGHTS_SOURCE_RANDOM", ())


@pytest.mark.parametrize("name", ["", "mine", "../../etc", "a" * 200])
def test_pretrained_weights_that_are_asked_for_and_missing_end_the_training(attempt: Path, name: str) -> None:
    asked = spec(source="WEIGHTS_SOURCE_PRETRAINED", name=name)
    with pytest.raises(ConfigurationFailure, match="this box has no weights"):
        initial.choose(asked, attempt, CLASSES, SIZE)


def test_weights_of_another_architecture_are_refused(tmp_path: Path, attempt: Path) -> None:
    published(tmp_path / "source", "vit")
    weights.add(tmp_path / "runner", "mine", tmp_path / "source")
    chosen = initial.choose(spec(source="WEIGHTS_SOURCE_PRETRAINED", name="mine"), attempt, CLASSES, SIZE)
    with pytest.raises(ConfigurationFailure, match="the weights mine are of another architecture: only 0%"):
        chosen.apply(small("resnet"))


def test_a_damaged_file_is_the_boxs_fault(tmp_path: Path, attempt: Path) -> None:
    published(tmp_path / "source")
    weights.add(tmp_path / "runner", HUB, tmp_path / "source")
    found = weights.find(tmp_path / "runner", HUB)
    assert found is not None
    found.write_bytes(found.read_bytes()[:1000])
    with pytest.raises(InfrastructureFailure, match="cannot be read"):
        initial.choose(spec(), attempt, CLASSES, SIZE).apply(small("resnet"))


def test_position_embeddings_are_interpolated_to_the_image_size(tmp_path: Path) -> None:
    source = published(tmp_path / "source", "vit", image_size=128)
    with torch.no_grad():
        positions = source.state_dict()["network.vit.embeddings.position_embeddings"]
        # A slope along the rows stays one.
        positions[:, 1:] = torch.arange(8.0).repeat_interleave(8).view(1, 64, 1)
    source.network.save_pretrained(tmp_path / "source")  # type: ignore[operator, union-attr]
    model = small("vit")
    fitted = pretrained.load_published(model, pretrained.read(tmp_path / "source" / "model.safetensors"), "x")
    assert not [name for name in fitted.fresh if "position" in name]
    grid = model.state_dict()["network.vit.embeddings.position_embeddings"][0, 1:, 0].view(4, 4)
    assert torch.allclose(grid[:, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]), atol=0.3)
    assert torch.allclose(grid[:, 0], grid[:, 3], atol=1e-4)


def test_a_detectors_heads_are_found_under_either_of_their_names(tmp_path: Path) -> None:
    model = small("rt_detr_v2", classes=5)
    inner = {f"model.{name}": tensor + 1 for name, tensor in model.network.state_dict().items()}  # type: ignore[union-attr]
    # Saved once, as the tied copy outside of the decoder.
    outer = {name.replace("model.decoder.class_embed", "class_embed"): tensor for name, tensor in inner.items()}
    assert getattr(model, "published") is RTDetrV2ForObjectDetection  # noqa: B009 (not of every model)
    target = small("rt_detr_v2", classes=5)
    fitted = pretrained.load_published(target, outer, "x")
    assert fitted.fresh == ()
    assert torch.equal(
        target.state_dict()["network.decoder.class_embed.0.weight"], inner["model.decoder.class_embed.0.weight"]
    )


def checkpoint(attempt: Path, model: Model, classes: tuple[str, ...]) -> training_pb2.TrainingSpec:
    """A checkpoint of an earlier attempt on this box, and a training that begins with its weights."""
    folder = attempt.parent / "a0" / "checkpoints"
    folder.mkdir(parents=True)
    about = {"step": 3, "classes": classes, "evaluated": {"step": 3, "metrics": {}, "scores": []}, "history": []}
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "step-00000003.safetensors", {"tether": json.dumps(about)})
    where = {"job_id": "j0", "attempt_id": "a0", "name": "step-00000003.safetensors"}
    return spec(source="WEIGHTS_SOURCE_CHECKPOINT", checkpoint=where)


def test_a_checkpoint_of_the_same_classes_gives_its_head_too(tmp_path: Path, attempt: Path) -> None:
    source = published(tmp_path / "source", classes=3)
    chosen = initial.choose(checkpoint(attempt, source, CLASSES), attempt, CLASSES, SIZE)
    assert chosen.source == "WEIGHTS_SOURCE_CHECKPOINT"
    assert chosen.description == "step-00000003.safetensors of job j0"
    model = small("resnet")
    assert chosen.apply(model) == ""
    assert all(same(model, source, name) for name in model.state_dict())


@pytest.mark.parametrize("classes", [("x", "y", "z"), ("x", "y")])
def test_a_checkpoint_of_other_classes_gives_all_but_its_head(
    tmp_path: Path, attempt: Path, classes: tuple[str, ...]
) -> None:
    source = published(tmp_path / "source", classes=len(classes))
    chosen = initial.choose(checkpoint(attempt, source, classes), attempt, CLASSES, SIZE)
    model = small("resnet")
    head = model.state_dict()[HEAD].clone()
    assert "network.classifier.1.weight" in chosen.apply(model)
    assert same(model, source, STEM)
    assert torch.equal(model.state_dict()[HEAD], head)


def test_a_checkpoint_that_is_gone_is_the_boxs_fault(attempt: Path) -> None:
    where = {"job_id": "j0", "attempt_id": "a0", "name": "step-00000003.safetensors"}
    with pytest.raises(InfrastructureFailure, match="cannot be read"):
        initial.choose(spec(source="WEIGHTS_SOURCE_CHECKPOINT", checkpoint=where), attempt, CLASSES, SIZE)
