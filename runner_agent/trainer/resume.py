"""Goes on from a checkpoint of an earlier attempt, of this job or of another. Loading one never runs code."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from protos.training.v1 import training_pb2
from runner_agent.trainer.failures import DatasetFailure, InfrastructureFailure
from runner_agent.trainer.retention import Saved

# Below an attempt's folder: what the agent has fetched for it.
INPUTS = "inputs"
# Plain names: a checkpoint names others, whose files may be removed later.
_ATTEMPT_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}\.safetensors")


@dataclass(frozen=True)
class Found:
    """A checkpoint, read and checked."""

    name: str
    attempt_id: str
    step: int
    classes: tuple[str, ...]
    # Metrics of the last evaluation before it and that evaluation's step; scores of all of them.
    metrics: Mapping[str, float]
    evaluated_step: int
    scores: Sequence[float]
    # All that were saved up to this one, with the attempts that saved them.
    history: Sequence[tuple[Saved, str]]
    tensors: Mapping[str, Tensor]
    # Images per optimiser step; None in files of earlier versions.
    batch_size: int | None = None
    # State of what scales the loss; empty where nothing did.
    scaler: Mapping[str, float] = field(default_factory=dict)

    def restore(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        classes: tuple[str, ...],
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """Weights, optimiser and scale of the loss as they were. Raises DatasetFailure and InfrastructureFailure."""
        if self.classes != classes:
            raise DatasetFailure(
                f"the dataset has other classes than when checkpoint {self.name} was saved; submit the job again to "
                "train from the start"
            )
        try:
            model.load_state_dict(_below("model.", self.tensors))
        except RuntimeError as error:
            raise _unreadable(self.name, self.attempt_id, " ".join(str(error).split())[:300]) from None
        saved = _below("optimizer.", self.tensors)
        for name, parameter in model.named_parameters():
            for key, tensor in _below(f"{name}.", saved).items():
                optimizer.state[parameter][key] = _like(parameter, tensor)
        if scaler is not None and self.scaler:
            scaler.load_state_dict(dict(self.scaler))


def find(attempt: Path, resume_from: training_pb2.ResumeFrom) -> Found | None:
    """Read what an attempt is to go on from; None where it starts anew. `attempt` is its folder, beside earlier ones'.

    Raises InfrastructureFailure where the file is gone, damaged or another one.
    """
    if not resume_from.attempt_id:
        return None
    found = read(attempt, resume_from.attempt_id, resume_from.checkpoint, resume_from.sha256)
    # Another job's checkpoints stay its own: none of them is removed because of what this one saves.
    return replace(found, history=()) if resume_from.job_id else found


def read(attempt: Path, attempt_id: str, name: str, sha256: str) -> Found:
    """A checkpoint of an attempt on this box, or one that was fetched for this `attempt`.

    Raises InfrastructureFailure where the file is gone, damaged or another one.
    """
    if not (_ATTEMPT_ID.fullmatch(attempt_id) and _NAME.fullmatch(name)):
        raise _unreadable(name[:100], attempt_id[:100], "its name is not that of a checkpoint")
    path = attempt / INPUTS / name
    if not path.exists():
        path = attempt.parent / attempt_id / "checkpoints" / name
    try:
        # Not mapped into memory: there, a disk that fails would end the process instead of raising.
        content = path.read_bytes()
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise _unreadable(name, attempt_id, "the file has changed since it was saved")
        return _found(name, attempt_id, _about(content), safetensors.torch.load(content))
    except OSError as error:
        raise _unreadable(name, attempt_id, error.strerror or str(error)) from None
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(name, attempt_id, " ".join(str(error).split())[:300] or type(error).__name__) from None


def _about(content: bytes) -> dict[str, Any]:
    """The metadata `tether`. The file begins with the length of its header, a JSON object, in 8 bytes."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about: dict[str, Any] = json.loads(header["__metadata__"]["tether"])
    return about


def _found(name: str, attempt_id: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Found:
    history = [
        (Saved(one["name"], None if one["score"] is None else float(one["score"])), one["attempt_id"])
        for one in about["history"]
        if _NAME.fullmatch(one["name"]) and _ATTEMPT_ID.fullmatch(one["attempt_id"])
    ]
    return Found(
        name=name,
        attempt_id=attempt_id,
        step=int(about["step"]),
        classes=tuple(about["classes"]),
        metrics={key: float(value) for key, value in about["evaluated"]["metrics"].items()},
        evaluated_step=int(about["evaluated"]["step"]),
        scores=[float(score) for score in about["evaluated"]["scores"]],
        history=history,
        tensors=tensors,
        batch_size=int(about["batch_size"]) if "batch_size" in about else None,
        scaler=about.get("scaler") or {},
    )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _like(parameter: Tensor, saved: Tensor) -> Tensor:
    """On the parameter's device, and in its memory layout, which fused optimisers take for granted."""
    if saved.shape != parameter.shape:
        return saved.to(parameter.device)
    return torch.empty_like(parameter, dtype=saved.dtype, requires_grad=False).copy_(saved)


def _unreadable(name: str, attempt_id: str, why: str) -> InfrastructureFailure:
    return InfrastructureFailure(
        f"checkpoint {name} of attempt {attempt_id}, from which the training was to go on, cannot be read ({why}); "
        "check the box's disk, or submit the job again to train from the start"
    )
