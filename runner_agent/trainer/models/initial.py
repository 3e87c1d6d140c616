"""The weights that a training begins with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from protos.training.v1 import training_pb2
from runner_agent import weights
from runner_agent.trainer import resume
from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models import pretrained, registry
from runner_agent.trainer.models.base import Model

_PREFIX = "model."


@dataclass(frozen=True)
class Chosen:
    """Which weights, and how they come into a model."""

    # For people, for example `microsoft/resnet-18, from the hub's cache`.
    description: str
    # Name of a `WeightsSource`: PRETRAINED, RANDOM or CHECKPOINT.
    source: str
    # One sentence each, for the event and the log.
    warnings: tuple[str, ...]
    # Puts them into a built model and returns what is to be said of it in the log; empty: nothing. Raises
    # ConfigurationFailure where they do not fit and InfrastructureFailure where they cannot be read.
    apply: Callable[[Model], str]


def choose(spec: training_pb2.TrainingSpec, attempt: Path, classes: tuple[str, ...], image_size: int) -> Chosen:
    """What a training that starts anew begins with. `attempt` is its folder, two below the runner's.

    Raises ConfigurationFailure where pretrained weights are asked for that this box does not have, and
    InfrastructureFailure where a checkpoint cannot be read.
    """
    wanted = spec.weights
    if wanted.source == training_pb2.WEIGHTS_SOURCE_RANDOM:
        return _random(())
    if wanted.source == training_pb2.WEIGHTS_SOURCE_CHECKPOINT:
        return _of_checkpoint(spec, attempt, classes, image_size)
    name = wanted.name or spec.architecture.pretrained
    found = _find(attempt.parent.parent, name) if name else None
    if found is not None:
        return found
    architecture_id = spec.architecture.architecture_id
    if not name:
        missing, way_out = f"there are no published weights for {architecture_id}", "name some that this box has"
    else:
        missing = f"this box has no weights {name} for {architecture_id}"
        way_out = f"add them with `tether-runner weights add {name} PATH`"
    if wanted.source == training_pb2.WEIGHTS_SOURCE_PRETRAINED:
        raise ConfigurationFailure(f"{missing}; {way_out}, or train without them")
    if wanted.source != training_pb2.WEIGHTS_SOURCE_UNSPECIFIED:
        raise ConfigurationFailure(f"the weights' source {wanted.source} is unknown to this runner; update it")
    way_out = f"; {way_out}" if name else ""
    return _random((f"{missing}, so it begins with random ones and needs more images and epochs{way_out}",))


def _random(warnings: tuple[str, ...]) -> Chosen:
    return Chosen("random", "WEIGHTS_SOURCE_RANDOM", warnings, lambda _: "")


def _find(runner: Path, name: str) -> Chosen | None:
    """What the box's owner has added goes before the hub's cache."""
    for path, place in (
        (weights.find(runner, name), "added on this box"),
        (pretrained.in_hub_cache(name), "from the hub's cache"),
    ):
        if path is not None:
            return Chosen(f"{name}, {place}", "WEIGHTS_SOURCE_PRETRAINED", (), _published(name, path))
    return None


def _published(name: str, path: Path) -> Callable[[Model], str]:
    return lambda model: pretrained.load_published(model, pretrained.read(path), name).line()


def _of_checkpoint(spec: training_pb2.TrainingSpec, attempt: Path, classes: tuple[str, ...], image_size: int) -> Chosen:
    wanted = spec.weights.checkpoint
    found = resume.read(attempt, wanted.attempt_id, wanted.name, wanted.sha256)
    tensors = {key.removeprefix(_PREFIX): tensor for key, tensor in found.tensors.items() if key.startswith(_PREFIX)}
    name = f"{found.name} of job {wanted.job_id or found.attempt_id}"

    def apply(model: Model) -> str:
        # The same number of other classes has a head that fits and means something else.
        head = frozenset[str]() if found.classes == classes else _head(spec.architecture, model, classes, image_size)
        return pretrained.load_own(model, tensors, name, head).line()

    return Chosen(name, "WEIGHTS_SOURCE_CHECKPOINT", (), apply)


def _head(
    architecture: training_pb2.Architecture, model: Model, classes: tuple[str, ...], image_size: int
) -> frozenset[str]:
    """Names of the tensors whose shape depends on the number of classes."""
    with torch.random.fork_rng(devices=[]):
        other = registry.build(architecture.family, architecture.config_json, len(classes) + 1, image_size)
    shapes = {key: tensor.shape for key, tensor in other.state_dict().items()}
    return frozenset(key for key, tensor in model.state_dict().items() if shapes.get(key) != tensor.shape)
