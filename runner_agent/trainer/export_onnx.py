"""ONNX from a checkpoint, checked with onnxruntime against torch."""

import logging
import math
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from protos.training.v1 import training_pb2
from runner_agent.trainer.export_checkpoint import Checkpoint, ExportFailure
from runner_agent.trainer.models.base import Model

OPSET = 18
# Of the largest value of an output.
MAX_RELATIVE_DIFFERENCE = 1e-3
# A detector takes its surest places; where two are equally sure, torch and onnxruntime may choose differently.
DETECTOR_TRIES = 3
_DETECTION = training_pb2.Task.Name(training_pb2.TASK_DETECTION)


class _Outputs(nn.Module):
    """What the graph computes."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.model.outputs(pixels)


def to_onnx(checkpoint: Checkpoint, job_id: str, output: Path) -> float:
    """Write the graph, for any number of images at once; returns the largest difference from torch's outputs.

    Raises ExportFailure where the difference is too large.
    """
    module = _Outputs(checkpoint.model()).eval()
    names = ["logits", "boxes"] if checkpoint.task == _DETECTION else ["logits"]
    size = checkpoint.image_size
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter by tracing is called old, but its successor fails for detectors (torch 2.13), takes three times
        # as long, and gives the same for the others.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.randn(2, 3, size, size),),
            str(output),
            dynamo=False,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ("pixels", *names)},
        )
    difference = _difference(module, output, size, DETECTOR_TRIES if checkpoint.task == _DETECTION else 1)
    graph = onnx.load(output)
    onnx.helper.set_model_props(
        graph, {**checkpoint.metadata(job_id), "max_difference": f"{difference:.3g}", "opset": str(OPSET)}
    )
    onnx.save(graph, output)
    return difference


def _difference(module: nn.Module, file: Path, size: int, tries: int) -> float:
    """Raises ExportFailure where onnxruntime's outputs are not torch's, on images of noise."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)
    relative = math.inf
    for _ in range(tries):
        # Not the number of images that was traced.
        pixels = torch.randn(1, 3, size, size, generator=generator)
        with torch.no_grad():
            expected = [one.numpy() for one in module(pixels)]
        found = session.run(None, {"pixels": pixels.numpy()})
        if not all(np.isfinite(one).all() for one in expected):
            raise ExportFailure(
                "the model gives values that are not numbers; choose a checkpoint from before it diverged"
            )
        pairs = list(zip(found, expected, strict=True))
        relative = max(float(np.abs(a - b).max()) / max(float(np.abs(b).max()), 1e-30) for a, b in pairs)
        if relative <= MAX_RELATIVE_DIFFERENCE:
            return max(float(np.abs(a - b).max()) for a, b in pairs)
    raise ExportFailure(
        f"onnxruntime's outputs differ from torch's by {relative:.1e} of their size (at most "
        f"{MAX_RELATIVE_DIFFERENCE:g}); export safetensors instead"
    )
