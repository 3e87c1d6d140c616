"""Model Compute Requirements: what each architecture of the catalogue needs at its default batch and image size.

`python -m runner_agent.trainer.requirements [--architecture ID] [--measure] [--write]`, in the repository.

VRAM, for each GPU. Peak = the most that the tensors of a training step take at once: weights, gradients, AdamW's two
moments, activations, the input. Computed with torch's memory tracker on tensors without content, in 32-bit floating
point, with CLASSES classes; or, with `--measure`, what torch has allocated on a GPU.

    minimum     = peak x 1.1 (gaps between blocks) + context of the driver + workspace of cuDNN, up to the next 0.5 GiB
    recommended = peak x 1.5 + the same, up to the next 0.5 GiB: room for the evaluation and for larger targets

CPU RAM.

    minimum     = the training process with its libraries + what the driver takes of the host + images decoded in memory
                  + a checkpoint on its way to the disk (weights and moments), up to the next 0.5 GiB
    recommended = minimum x 1.5 + a worker process for each of 4 cores, up to the next 0.5 GiB
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from google.protobuf.json_format import ParseDict, ParseError
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from protos.training.v1 import training_pb2
from runner_agent.trainer.batch import Boxes, Targets
from runner_agent.trainer.datasets.loading import MAX_DECODED_BYTES
from runner_agent.trainer.failures import TrainingFailure
from runner_agent.trainer.models import registry
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.models.detector import QueryDetector

CATALOGUE = Path(__file__).parents[2] / "services" / "scheduler" / "architectures.toml"
# Of the dataset for which memory is computed.
CLASSES = 20
# Of published weights; the parameters are counted with them.
_PUBLISHED_CLASSES = {
    training_pb2.TASK_CLASSIFICATION: 1000,
    training_pb2.TASK_DETECTION: 80,
    training_pb2.TASK_SEGMENTATION: 150,
}
_UNPUBLISHED_CLASSES = 10

_MIB, _GIB = 1 << 20, 1 << 30
_STEP_BYTES = _GIB // 2
# Of CUDA 12 and 13 on recent GPUs: 300 to 500 MiB.
CONTEXT_BYTES = 512 * _MIB
WORKSPACE_BYTES = 256 * _MIB
# Resident: 478 MiB measured, with torch, lightning, transformers and kornia imported and one step done.
PROCESS_BYTES = 512 * _MIB
# What the driver and its libraries take of the host's memory in each process that uses a GPU.
HOST_CONTEXT_BYTES = _GIB // 2
WORKER_BYTES = 256 * _MIB
WORKERS = 4
# Weights and two moments, four bytes each.
_CHECKPOINT_BYTES_PER_PARAMETER = 12


@dataclass(frozen=True)
class Row:
    """One architecture's requirements, in bytes."""

    parameters: int
    peak_bytes: int
    batch_size: int
    image_size: int
    # Name of the GPU that it was measured on; empty where it was computed.
    measured_on: str = ""
    # Of the driver, measured; computed: assumed.
    context_bytes: int = CONTEXT_BYTES

    def requirements(self) -> dict[str, Any]:
        """As `tether.training.v1.Requirements`, by field."""
        around = self.context_bytes + WORKSPACE_BYTES
        checkpoint = self.parameters * _CHECKPOINT_BYTES_PER_PARAMETER
        ram = PROCESS_BYTES + HOST_CONTEXT_BYTES + MAX_DECODED_BYTES + checkpoint
        return {
            "min_gpu_vram_bytes": _up(self.peak_bytes * 1.1 + around),
            "recommended_gpu_vram_bytes": _up(self.peak_bytes * 1.5 + around),
            "min_cpu_ram_bytes": _up(ram),
            "recommended_cpu_ram_bytes": _up(ram * 1.5 + WORKERS * WORKER_BYTES),
            "basis": f"REQUIREMENTS_BASIS_{'MEASURED' if self.measured_on else 'COMPUTED'}",
            "batch_size": self.batch_size,
            "image_size": self.image_size,
            "peak_vram_bytes": self.peak_bytes,
            **({"measured_on": self.measured_on} if self.measured_on else {}),
        }


def _up(number: float) -> int:
    return -int(-number // _STEP_BYTES) * _STEP_BYTES


def read(file: Path) -> dict[str, training_pb2.Architecture]:
    """The catalogue's architectures by id. Raises ValueError where one cannot be understood."""
    found = {}
    for name, entry in tomllib.loads(file.read_text("utf-8")).items():
        config = json.dumps(entry.pop("config", {}), sort_keys=True)
        try:
            found[name] = ParseDict(entry, training_pb2.Architecture(architecture_id=name, config_json=config))
        except ParseError as error:
            raise ValueError(f"architecture {name} in {file}: {error}") from None
    return found


def parameters_of(architecture: training_pb2.Architecture) -> int:
    """Learnable numbers, with the classes of the published weights, or 10 where there are none."""
    classes = _PUBLISHED_CLASSES[architecture.task] if architecture.pretrained else _UNPUBLISHED_CLASSES
    return sum(parameter.numel() for parameter in _build(architecture, classes).parameters())


def _build(architecture: training_pb2.Architecture, classes: int) -> Model:
    return registry.build(
        architecture.family, architecture.config_json, classes, architecture.defaults.image_size
    ).train()


def compute(architecture: training_pb2.Architecture, mode: FakeTensorMode) -> Row:
    """By torch's memory tracker, on tensors without content: takes seconds and little memory.

    All computations of a process share one `mode`: transformers keeps some tensors for later models.
    """
    batch, size = architecture.defaults.batch_size, architecture.defaults.image_size
    model = _build(architecture, CLASSES).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with mode:
        _hollow(model)
        pixels = torch.empty(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        targets = _class_targets(architecture.task, batch, size)
        peak = tracked_peak(model, pixels, lambda: _hollow_loss(model, pixels, targets))
    return Row(parameters_of(architecture), peak, batch, size)


def tracked_peak(model: nn.Module, pixels: Tensor, loss_of: Callable[[], Tensor]) -> int:
    """The most that a step with AdamW takes at once, in bytes, with gradients and moments of an earlier one there."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    tracker = _Tracker()
    tracker.track_external(model, optimizer, pixels)
    with tracker, _AnswersYes():  # type: ignore[no-untyped-call]
        loss = loss_of()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    peak = tracker.get_tracker_snapshot("peak")
    return int(sum(kinds["Total"] for kinds in peak.values()))


class _Tracker(MemTracker):  # type: ignore[no-untyped-call]
    """Keeps the peak of the whole; torch's keeps that of each module too, at each operation, which takes minutes."""

    def __init__(self) -> None:
        super().__init__()
        self._no_modules: Any = WeakIdKeyDictionary()

    def _update_peak_stats(self, peak_state: Any) -> None:
        modules, self.memory_tracking = self.memory_tracking, self._no_modules
        super()._update_peak_stats(peak_state)
        self.memory_tracking = modules


class _AnswersYes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers a network that asks about values, which hollow tensors do not have: `are all of them finite?`."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default and args[0].dtype is torch.bool:
            return True
        return function(*args, **(kwargs or {}))


def _hollow(model: nn.Module) -> None:
    """Replace all tensors of a model with hollow ones, of the mode that is active."""
    replace: Callable[..., object] = model._apply
    replace(lambda tensor: torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype))
    # The tracker expects it of all; those that do not are single numbers.
    model.requires_grad_(True)


def _class_targets(task: int, batch: int, size: int) -> Tensor:
    if task == training_pb2.TASK_SEGMENTATION:
        return torch.zeros(batch, size, size, dtype=torch.uint8)
    return torch.zeros(batch, dtype=torch.int64)


def _hollow_loss(model: Model, pixels: Tensor, targets: Tensor) -> Tensor:
    if not isinstance(model, QueryDetector):
        return model(pixels, targets)[0]  # type: ignore[no-any-return]
    # Matching needs values. What the loss itself takes, some MiB, is left out; the queries that are made from noisy
    # targets, twice `num_denoising`, are counted in as ordinary ones.
    config: Any = model.network.config
    config.num_queries, plain = config.num_queries + 2 * config.num_denoising, config.num_queries
    found = model.network(pixel_values=model.inputs(pixels))
    config.num_queries = plain
    outputs = (
        found.intermediate_logits,
        found.intermediate_reference_points,
        found.intermediate_predicted_corners,
        found.enc_topk_logits,
        found.enc_topk_bboxes,
    )
    return torch.stack([output.sum() for output in outputs if output is not None]).sum()


def measure(architecture: training_pb2.Architecture, device: torch.device, context_bytes: int) -> Row:
    """On a GPU: real steps in 32-bit floating point, on random images."""
    batch, size = architecture.defaults.batch_size, architecture.defaults.image_size
    model = _build(architecture, CLASSES).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    pixels = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    targets: Targets = _class_targets(architecture.task, batch, size).to(device)
    if architecture.task == training_pb2.TASK_DETECTION:
        targets = tuple(_some_boxes(device) for _ in range(batch))
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(3):
        loss, _raw = model(pixels, targets)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    name = torch.cuda.get_device_name(device)
    return Row(parameters_of(architecture), peak, batch, size, name, context_bytes)


def _some_boxes(device: torch.device) -> Boxes:
    """Ten objects, more than most images of COCO show."""
    corner = torch.rand(10, 2, device=device) * 0.5
    boxes = torch.cat([corner, corner + 0.1 + torch.rand(10, 2, device=device) * 0.4], 1)
    return Boxes(boxes, torch.arange(10, device=device) % CLASSES, torch.zeros(10, dtype=torch.bool, device=device))


def _context_bytes(device: torch.device) -> int:
    """What the driver holds of the GPU for this process, which is to be the only one on it."""
    torch.ones(1, device=device).add_(1).item()
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device)


def written(text: str, name: str, row: Row) -> str:
    """The catalogue's text with the row's lines in place of the old ones. Pure."""
    lines, section = [], ""
    for line in text.splitlines():
        heading = re.fullmatch(r'\["?([\w.-]+?)"?(\.config.*)?\]', line)
        if heading is not None:
            section = heading[1]
        key = line.partition(" = ")[0]
        if section == name and key == "parameters":
            line = f"parameters = {row.parameters:_}"
        elif section == name and key == "requirements":
            shown = (f"{field} = {_toml(value)}" for field, value in row.requirements().items())
            line = f"requirements = {{ {', '.join(shown)} }}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _toml(value: int | str) -> str:
    return json.dumps(value) if isinstance(value, str) else f"{value:_}"


def main() -> None:
    """Exit code 0 once all rows are shown; 1 with a sentence where they cannot be computed."""
    parser = argparse.ArgumentParser(
        prog="runner_agent.trainer.requirements", description="Computes the catalogue's Model Compute Requirements."
    )
    parser.add_argument("--architecture", metavar="ID", action="append", help="only this one; may be repeated")
    parser.add_argument("--measure", action="store_true", help="measure on the first GPU instead of computing")
    parser.add_argument("--write", action="store_true", help="write the rows into the catalogue")
    arguments = parser.parse_args()
    catalogue = read(CATALOGUE)
    chosen = arguments.architecture or list(catalogue)
    unknown = [name for name in chosen if name not in catalogue]
    if unknown:
        sys.exit(f"the catalogue has no architecture {unknown[0]}; it has {', '.join(catalogue)}")
    if arguments.measure and not torch.cuda.is_available():
        sys.exit("torch can use no GPU here; leave --measure out to compute the rows instead")
    device = torch.device("cuda:0")
    context = _context_bytes(device) if arguments.measure else 0
    mode = FakeTensorMode()
    for name in chosen:
        try:
            row = measure(catalogue[name], device, context) if arguments.measure else compute(catalogue[name], mode)
        except (TrainingFailure, torch.OutOfMemoryError) as error:
            sys.exit(f"{name}: {' '.join(str(error).split())[:300]}")
        print(_shown(name, row), flush=True)
        if arguments.write:
            CATALOGUE.write_text(written(CATALOGUE.read_text("utf-8"), name, row), "utf-8")


def _shown(name: str, row: Row) -> str:
    needs = row.requirements()
    least, most, ram = (
        f"{needs[key] / _GIB:.1f} GiB"
        for key in ("min_gpu_vram_bytes", "recommended_gpu_vram_bytes", "min_cpu_ram_bytes")
    )
    peak = f"{row.peak_bytes / _GIB:.2f} GiB"
    return f"{name}: {row.parameters:,} parameters, peak {peak}, VRAM at least {least}, better {most}, RAM {ram}"


if __name__ == "__main__":
    main()
