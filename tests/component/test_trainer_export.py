"""Exports: what a file for use elsewhere computes is what the training's model computes, and it says how to use it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors
import torch
from safetensors.torch import load_file

from runner_agent.trainer import export_onnx
from runner_agent.trainer.export import export
from runner_agent.trainer.export_checkpoint import ExportFailure
from runner_agent.trainer.models import registry
from tests.support.model_checkpoint import CLASSES, saved, trained


def outputs_of(file: Path, pixels: torch.Tensor) -> tuple[list[Any], dict[str, str], list[str]]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = session.run(None, {"pixels": pixels.numpy()})
    return found, session.get_modelmeta().custom_metadata_map, [one.name for one in session.get_outputs()]


# Tracing the segmentation model takes most of the time; the other tasks are among the families below.
@pytest.mark.parametrize("task", ["TASK_CLASSIFICATION", pytest.param("TASK_SEGMENTATION", marks=pytest.mark.slow)])
def test_onnx_computes_what_torch_computes_for_any_number_of_images(tmp_path: Path, task: str) -> None:
    model, about = trained(task)
    output = tmp_path / "model.onnx"
    told = export("onnx", saved(tmp_path, model, about), "", "jb_one", output)
    assert told["step"] == 120
    for count in (1, 5):
        pixels = torch.randn(count, 3, about["image_size"], about["image_size"])
        found, metadata, names = outputs_of(output, pixels)
        with torch.no_grad():
            expected = model.outputs(pixels)[0].numpy()
        assert found[0].shape == expected.shape
        assert np.abs(found[0] - expected).max() <= 1e-3 * np.abs(expected).max()
    assert names == ["logits"]
    assert json.loads(metadata["classes"]) == CLASSES
    assert metadata["task"] == task.removeprefix("TASK_").lower()
    assert json.loads(metadata["mean"]) == about["mean"]
    assert (metadata["image_size"], metadata["job_id"], metadata["step"]) == (str(about["image_size"]), "jb_one", "120")
    assert float(metadata["max_difference"]) == pytest.approx(told["max_difference"], rel=0.01, abs=1e-12)
    assert model.state_dict().keys() == trained(task)[0].state_dict().keys()


def test_safetensors_has_the_weights_alone_and_says_how_to_use_them(tmp_path: Path) -> None:
    model, about = trained("TASK_CLASSIFICATION")
    output = tmp_path / "weights.safetensors"
    export("safetensors", saved(tmp_path, model, about), "", "jb_one", output)
    found = load_file(output)
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())
    with safetensors.safe_open(output, "pt") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["classes"]) == CLASSES
    again = registry.build(metadata["family"], metadata["config_json"], 4, int(metadata["image_size"])).eval()
    again.load_state_dict(found)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.outputs(pixels)[0], model.outputs(pixels)[0])


def test_an_export_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, about = trained("TASK_CLASSIFICATION")
    monkeypatch.setattr(export_onnx, "MAX_RELATIVE_DIFFERENCE", -1.0)
    with pytest.raises(ExportFailure, match="differ from torch's by"):
        export("onnx", saved(tmp_path, model, about), "", "jb_one", tmp_path / "model.onnx")


def test_what_cannot_be_exported_says_why_in_one_sentence(tmp_path: Path) -> None:
    model, about = trained("TASK_CLASSIFICATION")
    path = saved(tmp_path, model, about)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    for make, words in (
        (lambda: (path, "0" * 64), "has changed on the box since it was saved"),
        (lambda: (tmp_path / "none.safetensors", ""), "cannot be read on the box: No such file or directory"),
        (lambda: (saved(tmp_path, model, {**about, "family": "unet"}), ""), "architecture family unet is unknown"),
        (lambda: (saved(tmp_path, model, {**about, "classes": ["one"]}), ""), "does not fit the model"),
        (lambda: (saved(tmp_path, model, about), ""), "gives values that are not numbers"),
    ):
        with pytest.raises(ExportFailure, match=words):
            export("onnx", *make(), "jb_one", tmp_path / "model.onnx")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ExportFailure, match="is not a checkpoint of this platform"):
        export("safetensors", torn, "", "jb_one", tmp_path / "weights.safetensors")


SMALLEST = ("mobilenet-v2-0.35", "vit-tiny", "convnext-tiny", "segformer-b0", "rt-detr-v2-nano", "d-fine-n")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("architecture_id", SMALLEST)
def test_each_family_of_the_catalogue_is_exported(tmp_path: Path, architecture_id: str) -> None:
    tasks = {"segformer-b0": "TASK_SEGMENTATION", "rt-detr-v2-nano": "TASK_DETECTION", "d-fine-n": "TASK_DETECTION"}
    model, about = trained(tasks.get(architecture_id, "TASK_CLASSIFICATION"), architecture_id)
    told = export("onnx", saved(tmp_path, model, about), "", "jb_one", tmp_path / "model.onnx")
    assert 0 <= told["max_difference"] < 0.01
    pixels = torch.randn(3, 3, about["image_size"], about["image_size"])
    found, metadata, names = outputs_of(tmp_path / "model.onnx", pixels)
    with torch.no_grad():
        assert [one.shape for one in found] == [tuple(one.shape) for one in model.outputs(pixels)]
    assert names == (["logits", "boxes"] if about["task"] == "TASK_DETECTION" else ["logits"])
    assert metadata["outputs"].startswith("logits: float32 (n, ")
