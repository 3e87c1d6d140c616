"""One attempt from its release to its end, told to the keeper whatever happens."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from lightning.fabric import Fabric

from protos.common.v1 import inventory_pb2
from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent import clock, memory_kills
from runner_agent.config import StateFolder
from runner_agent.trainer import auto_batch, devices, failures, resume, retention
from runner_agent.trainer.checkpoints import CheckpointFolder
from runner_agent.trainer.control import Control, Release
from runner_agent.trainer.datasets import loading, places
from runner_agent.trainer.loop import MAX_MATRIX_CLASSES, End, Progress, Training, shown
from runner_agent.trainer.models import initial, registry
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.reporter import Reporter
from runner_agent.trainer.settings import AUTO_BATCH, Settings, resolve
from runner_agent.trainer.spool import Spool, numbers


def run(release: Release, control: Control, stopped: Callable[[], bool]) -> None:
    """Train and tell `ended`; never raises."""
    progress = Progress()
    outcome, reason = "FINISHED", ""
    killed_before = memory_kills.counted()
    ending = contextlib.ExitStack()
    try:
        end = _train(release, control, stopped, progress, ending)
        outcome = "KILLED" if end is End.STOP else "FINISHED"
        message = _message(end, progress, shown(progress.metrics))
    except loading.Stopped:
        outcome, message = "KILLED", "stopped before its first step"
    except Exception as error:  # whatever ends a training is told with its reason
        outcome = "FAILED"
        batch_size, image_size = _sizes(release)
        memory_killed = memory_kills.counted() > killed_before
        reason, message = failures.explain(
            error, batch_size=batch_size, image_size=image_size, memory_killed=memory_killed
        )
        if not isinstance(error, failures.TrainingFailure):
            traceback.print_exc()
        print(message, file=sys.stderr, flush=True)
    ending.close()
    control.say(
        "ended",
        outcome=outcome,
        reason=reason,
        message=message,
        steps=progress.step,
        epochs=progress.epochs,
        metrics=numbers(progress.metrics),
    )


def _train(
    release: Release,
    control: Control,
    stopped: Callable[[], bool],
    progress: Progress,
    ending: contextlib.ExitStack,
) -> End:
    spec = _spec(release.directory)
    settings = resolve(spec)
    fabric = devices.prepare(release.simulated, release.gpu_uuids, settings)
    follower = fabric.global_rank > 0
    spool = Path(os.devnull) if follower else release.directory / "spool" / "trainer.jsonl"
    reporter = Reporter(control, Spool(spool, clock.wall_ms, control.say_lost), clock.wall_ms, clock.boottime_ns)
    ending.callback(reporter.finish)
    loaded = loading.load(
        settings.location,
        settings.image_size,
        settings.validation_share,
        settings.seed,
        stopped,
        format_=settings.dataset_format,
        # The attempt's folder lies two below the runner's.
        places=places.of(release.directory.parent.parent),
        say=reporter.line,
    )
    found = resume.find(release.directory, spec.resume_from)
    torch.manual_seed(settings.seed)
    model = registry.build(settings.family, settings.config_json, len(loaded.classes), settings.image_size)
    if found is not None:
        begins = initial.Chosen(f"{found.name} of {found.attempt_id}", "", (), lambda _: "")
        start = f"going on from {begins.description} at step {found.step:,}"
    else:
        begins = initial.choose(spec, release.directory, loaded.classes, settings.image_size)
        start = f"with {'random weights' if begins.description == 'random' else f'weights {begins.description}'}"
    note = begins.apply(model)
    for line in _introduction(release, settings, loaded, model, fabric, start):
        reporter.line(line)
    for line in (*(f"warning: {warning}" for warning in begins.warnings), *([note] if note else [])):
        reporter.line(line)
    if settings.batch_size == AUTO_BATCH:
        settings, line = _with_batch_size(settings, spec, release, loaded, model, fabric, found)
        reporter.line(line)
    metric = retention.PRIMARY[settings.task]
    strategy = retention.Strategy(settings.policy, settings.every_n_evaluations, settings.keep_best, metric)
    saved = CheckpointFolder(release.directory / "checkpoints", strategy, reporter.checkpoint)
    training = Training(settings, loaded, model, fabric, reporter, saved, progress, stopped, clock.boottime_ns)
    training.go_on(spec.resume_from.trained_ms, found)
    del found  # a second model's worth of memory
    if stopped():
        raise loading.Stopped
    # The sizes are for the keeper, should the kernel end this process for lack of memory.
    sizes = {"batch_size": settings.batch_size, "image_size": settings.image_size}
    chosen = {"weights_source": begins.source, "warnings": list(begins.warnings)} if begins.source else {}
    control.say("started", weights=begins.description, step=progress.step, epoch=progress.epochs, **sizes, **chosen)
    return training.run()


def _with_batch_size(
    settings: Settings,
    spec: training_pb2.TrainingSpec,
    release: Release,
    loaded: loading.Data,
    model: Model,
    fabric: Fabric,
    going_on: resume.Found | None,
) -> tuple[Settings, str]:
    """With the batch size of the training that is gone on with, or one that is found; and a line about it."""
    if going_on is not None and going_on.batch_size:
        sized = settings.with_batch_size(going_on.batch_size)
        line = f"batch size auto: {sized.batch_size}, as found before"
    else:
        vram_bytes = _simulated_vram_bytes(release) if release.simulated else 0
        found = auto_batch.find(settings, spec.architecture, loaded, model, fabric, vram_bytes)
        sized, line = settings.with_batch_size(found.batch_size), found.line
    if sized.learning_rate != settings.learning_rate:
        line += f"; the learning rate follows it to {sized.learning_rate:.2g}"
    return sized, line


def _simulated_vram_bytes(release: Release) -> int:
    """Of the smallest simulated GPU; 0 where the agent has left no inventory."""
    inventory = inventory_pb2.Inventory()
    with contextlib.suppress(OSError, DecodeError):
        inventory.ParseFromString(StateFolder(release.directory.parent.parent).inventory.read_bytes())
    return min((gpu.vram_bytes for gpu in inventory.gpus), default=0)


def _spec(directory: Path) -> Any:
    try:
        text = (directory / "assignment.json").read_text("utf-8")
        return json_format.Parse(text, session_pb2.Assignment(), ignore_unknown_fields=True).spec
    except (OSError, ValueError, json_format.ParseError) as error:
        raise failures.InfrastructureFailure(f"the assignment cannot be read ({error}); submit the job again") from None


def _sizes(release: Release) -> tuple[int, int]:
    """Batch size and image size as they were set; zeros where the settings cannot be used."""
    try:
        settings = resolve(_spec(release.directory))
    except failures.TrainingFailure:
        return 0, 0
    return max(settings.batch_size, 0), settings.image_size


def _introduction(
    release: Release,
    settings: Settings,
    loaded: loading.Data,
    model: Model,
    fabric: Fabric,
    start: str,
) -> list[str]:
    images, classes = len(loaded.train) + len(loaded.validation), len(loaded.classes)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = [f"warning: {warning}" for warning in loaded.warnings[:20]]
    if len(loaded.warnings) > 20:
        lines.append(f"warning: {len(loaded.warnings) - 20:,} more of these; `tether datasets check` lists them")
    if settings.confusion_matrix and classes > MAX_MATRIX_CLASSES:
        lines.append(f"warning: {classes:,} classes are too many for a confusion matrix (at most {MAX_MATRIX_CLASSES})")
    device = (
        "the CPU, for simulated GPUs"
        if release.simulated
        else f"{fabric.world_size} x {torch.cuda.get_device_name(fabric.device)}"
    )
    return [
        *lines,
        f"dataset {settings.dataset_name}: {images:,} images in {classes:,} classes, "
        f"{len(loaded.train):,} to train on and {len(loaded.validation):,} to validate on",
        f"model {settings.architecture_id}: {parameters:,} parameters {start}, on {device}",
    ]


def _message(end: End, progress: Progress, told: str) -> str:
    """`told` is the primary metric for people; empty where nothing was evaluated."""
    done = f"{progress.step:,} steps ({progress.epochs:,} complete epochs)"
    if end is End.STOP:
        return f"stopped after {done}; a checkpoint of that step is saved"
    if end is End.PATIENCE:
        return f"finished early after {done} without further improvement: {told}"
    return f"finished after {done}: {told}"
