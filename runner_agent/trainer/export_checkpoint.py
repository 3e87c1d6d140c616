"""A checkpoint as exports see it: what it tells of itself, its model, and its weights as a file.

An exported file tells of itself, as text: `task`, `classes` (a JSON list), `image_size`, `mean` and `deviation` (JSON
lists, by channel, of pixels from 0 to 1), `resize`, `input`, `outputs`, `architecture_id`, `family`, `config_json`,
`job_id`, `checkpoint`, `step`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from protos.training.v1 import training_pb2
from runner_agent.trainer.failures import TrainingFailure
from runner_agent.trainer.models import registry
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.pixels import DEVIATION, MEAN

INPUT = "pixels: float32 (n, 3, image_size, image_size), RGB, (pixel / 255 - mean) / deviation"
RESIZE = "to image_size x image_size, without regard to proportions, bilinear with antialiasing"
OUTPUTS = {
    "TASK_CLASSIFICATION": "logits: float32 (n, classes); softmax gives probabilities",
    "TASK_SEGMENTATION": "logits: float32 (n, classes, image_size, image_size); argmax gives the class of a pixel",
    "TASK_DETECTION": "logits: float32 (n, queries, classes), sigmoid gives scores; "
    "boxes: float32 (n, queries, 4), centre x, centre y, width, height in shares of the image's size",
}


class ExportFailure(Exception):
    """The checkpoint cannot be exported; one sentence."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, read and checked: its metadata, and the model's tensors."""

    name: str
    about: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def task(self) -> str:
        """Checkpoints of earlier versions are all of classifications."""
        return str(self.about.get("task") or training_pb2.Task.Name(training_pb2.TASK_CLASSIFICATION))

    @property
    def step(self) -> int:
        return int(self.about["step"])

    @property
    def image_size(self) -> int:
        return int(self.about["image_size"])

    def model(self) -> Model:
        """The model with its weights, for use. Raises ExportFailure."""
        try:
            about = self.about
            built = registry.build(about["family"], about["config_json"], len(about["classes"]), self.image_size)
            built.load_state_dict(dict(self.tensors))
        except TrainingFailure as error:
            raise ExportFailure(f"the model of {self.name} cannot be built: {error.message}") from None
        except RuntimeError as error:
            raise ExportFailure(
                f"{self.name} does not fit the model that this version of the agent builds: {one_line(error)}"
            ) from None
        return built.eval()

    def metadata(self, job_id: str) -> dict[str, str]:
        about = self.about
        return {
            "task": self.task.removeprefix("TASK_").lower(),
            "classes": json.dumps(list(about["classes"]), ensure_ascii=False),
            "image_size": str(self.image_size),
            "mean": json.dumps(list(about.get("mean", MEAN))),
            "deviation": json.dumps(list(about.get("deviation", DEVIATION))),
            "resize": RESIZE,
            "input": INPUT,
            "outputs": OUTPUTS.get(self.task, ""),
            "architecture_id": str(about.get("architecture_id", "")),
            "family": str(about["family"]),
            "config_json": str(about["config_json"]),
            "job_id": job_id,
            "checkpoint": self.name,
            "step": str(self.step),
        }


def read(path: Path, sha256: str = "") -> Checkpoint:
    """Loading a checkpoint never runs code. Raises ExportFailure."""
    try:
        # Not mapped into memory: there, a disk that fails would end the process instead of raising.
        content = path.read_bytes()
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise ExportFailure(f"the checkpoint {path.name} has changed on the box since it was saved")
        # The file begins with the length of its header, a JSON object, in 8 bytes.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = json.loads(header["__metadata__"]["tether"])
        tensors = safetensors.torch.load(content)
    except OSError as error:
        raise ExportFailure(f"the checkpoint {path.name} cannot be read on the box: {error.strerror}") from None
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ExportFailure(f"{path.name} is not a checkpoint of this platform: {one_line(error)}") from None
    prefix = "model."
    weights = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
    return Checkpoint(path.name, about, weights)


def to_safetensors(checkpoint: Checkpoint, job_id: str, output: Path) -> None:
    """Weights and buffers only, under the names that they have in the model."""
    checkpoint.model()  # raises where they do not fit
    safetensors.torch.save_file(dict(checkpoint.tensors), output, checkpoint.metadata(job_id))


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
