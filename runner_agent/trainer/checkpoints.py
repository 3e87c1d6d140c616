"""Saves checkpoints: one safetensors file each, so that loading one never runs code.

Tensors: `model.<name>` (weights and buffers), `optimizer.<parameter>.<state>`. Metadata, all text: `tether` (a JSON
object with step, epoch, architecture, classes, preprocessing, and what a later attempt needs to go on: batch size,
scale of the loss, evaluations so far, and the checkpoints kept). The learning rate, the order of the images and the
random numbers follow from the settings and the step.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from runner_agent import files
from runner_agent.trainer.retention import Saved, Strategy, is_best
from runner_agent.trainer.spool import number, numbers


def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything that a training needs to go on, as tensors on the CPU."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = value
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


@dataclass
class CheckpointFolder:
    """The checkpoints of one attempt. Raises OSError where the disk does not take them."""

    directory: Path
    strategy: Strategy
    # Tells a `tether.training.v1.Checkpoint` as proto JSON, and the names that were removed because of it.
    told: Callable[[dict[str, Any], list[str]], None]
    history: list[Saved] = field(default_factory=list)
    kept: frozenset[str] = frozenset()
    # Where those of the history lie that earlier attempts have saved.
    elsewhere: dict[str, Path] = field(default_factory=dict)

    def take_up(self, history: Sequence[tuple[Saved, str]]) -> None:
        """Go on where earlier attempts on this box stopped: what they saved, each with its attempt's id."""
        self.history = [saved for saved, _ in history]
        self.elsewhere = {saved.name: self._folder_of(attempt_id) for saved, attempt_id in history}
        self.kept = self.strategy.kept(self.history)

    def _folder_of(self, attempt_id: str) -> Path:
        return self.directory.parent.parent / attempt_id / self.directory.name

    def has(self, step: int) -> bool:
        """True if the newest checkpoint is of this step."""
        return bool(self.history) and self.history[-1].name == _name(step)

    def save(
        self, step: int, epoch: int, metrics: Mapping[str, float], tensors: dict[str, Tensor], about: Mapping[str, Any]
    ) -> str:
        """Write a checkpoint, tell it once it is durable, then remove those that the strategy drops.

        `metrics` are those of the evaluation at this step; empty at a stop. Returns the file's name.
        """
        name = _name(step)
        path = self.directory / name
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / f".{name}"
        saved = Saved(name, self.strategy.score(metrics) if metrics else None)
        content = {"step": step, "epoch": epoch, **about, "history": self._told_history(saved)}
        try:
            save_file(tensors, temporary, {"tether": json.dumps(content)})
            with temporary.open("rb") as written:
                digest = hashlib.file_digest(written, "sha256").hexdigest()
                size_bytes = os.fstat(written.fileno()).st_size
                os.fsync(written.fileno())
        except SafetensorError as error:
            # What the disk said comes in its words only.
            temporary.unlink(missing_ok=True)
            raise OSError(f"{path}: {error}") from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(path)
        files.sync_folder(self.directory)
        best = is_best(saved.score, self.history)
        self.history.append(saved)
        before = self.kept | {name}
        self.kept = self.strategy.kept(self.history)
        removed = sorted(before - self.kept)
        checkpoint = {
            "name": name,
            "path": str(path),
            "step": step,
            "epoch": epoch,
            "bytes": size_bytes,
            "sha256": digest,
            "metrics": numbers(metrics),
            "best": best,
        }
        self.told(checkpoint, removed)
        for dropped in removed:
            (self.elsewhere.get(dropped, self.directory) / dropped).unlink(missing_ok=True)
        return name

    def _told_history(self, saved: Saved) -> list[dict[str, Any]]:
        own = self.directory.parent.name
        folders = {name: folder.parent.name for name, folder in self.elsewhere.items()}
        return [
            {
                "name": one.name,
                "attempt_id": folders.get(one.name, own),
                "score": None if one.score is None else number(one.score),
            }
            for one in (*self.history, saved)
        ]


def _name(step: int) -> str:
    return f"step-{step:08d}.safetensors"
