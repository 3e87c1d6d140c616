"""Checkpoints of small models, as a training saves them."""

import json
import tomllib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import services.scheduler
from runner_agent.trainer.models import registry
from runner_agent.trainer.models.base import Model

CLASSES = ["cat", "dog", "Zürich", "owl"]
SMALL: dict[str, tuple[str, dict[str, Any], int]] = {
    "TASK_CLASSIFICATION": (
        "resnet",
        {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
        32,
    ),
    "TASK_SEGMENTATION": (
        "segformer",
        {
            "hidden_sizes": [8, 16, 20, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 5, 8],
            "decoder_hidden_size": 16,
        },
        64,
    ),
}


def trained(task: str, architecture_id: str = "") -> tuple[Model, dict[str, Any]]:
    """A model, of few weights or of the catalogue, whose statistics are not the initial ones, and its metadata."""
    family, config, size = of_catalogue(architecture_id) if architecture_id else SMALL[task]
    torch.manual_seed(3)
    model = registry.build(family, json.dumps(config), len(CLASSES), size)
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model.outputs(torch.randn(4, 3, size, size))
    about = {
        "task": task,
        "architecture_id": f"{family}-small",
        "family": family,
        "config_json": json.dumps(config),
        "classes": CLASSES,
        "image_size": size,
        "mean": [0.485, 0.456, 0.406],
        "deviation": [0.229, 0.224, 0.225],
        "step": 120,
    }
    return model.eval(), about


def of_catalogue(architecture_id: str) -> tuple[str, dict[str, Any], int]:
    """Family, settings, and image size."""
    entry = tomllib.loads((Path(services.scheduler.__path__[0]) / "architectures.toml").read_text())[architecture_id]
    return entry["family"], entry["config"], entry["defaults"]["image_size"]


def saved(folder: Path, model: Model, about: dict[str, Any]) -> Path:
    """The file of its checkpoint."""
    path = folder / "step-00000120.safetensors"
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    optimizer = {"optimizer.w.exp_avg": torch.ones(3)}
    save_file({**tensors, **optimizer}, path, {"tether": json.dumps(about)})
    return path
