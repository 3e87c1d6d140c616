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
from lightning.fabric import Fabric

from protos.scheduler.v1 import session_pb2
from runner_agent import clock, memory_kills
from runner_agent.trainer import devices, failures, resume, retention
from runner_agent.trainer.checkpoints import CheckpointFolder
from runner_agent.trainer.control import Control, Release
from runner_agent.trainer.datasets import loading
from runner_agent.trainer.loop import MAX_MATRIX_CLASSES, End, Progress, Training
from runner_agent.trainer.models import registry
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.reporter import Reporter
from runner_agent.trainer.settings import Settings, resolve
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
        message = _message(end, progress)
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
    fabric = devices.prepare(release.simulated, release.gpu_uuids)
    follower = fabric.global_rank > 0
    spool = Path(os.devnull) if follower else release.directory / "spool" / "trainer.jsonl"
    reporter = Reporter(control, Spool(spool, clock.wall_ms, control.say_lost), clock.wall_ms, clock.boottime_ns)
    ending.callback(reporter.finish)
    loaded = loading.load(settings.location, settings.image_size, settings.validation_share, settings.seed, stopped)
    found = resume.find(release.directory.parent, spec.resume_from)
    torch.manual_seed(settings.seed)
    model = registry.build(settings.family, settings.config_json, len(loaded.classes))
    weights = f"{found.name} of {found.attempt_id}" if found is not None else "random"
    start = f"going on from {weights} at step {found.step:,}" if found is not None else "with random weights"
    for line in _introduction(release, settings, loaded, model, fabric, start):
        reporter.line(line)
    strategy = retention.Strategy(settings.policy, settings.every_n_evaluations, settings.keep_best)
    saved = CheckpointFolder(release.directory / "checkpoints", strategy, reporter.checkpoint)
    training = Training(settings, loaded, model, fabric, reporter, saved, progress, stopped, clock.boottime_ns)
    training.go_on(spec.resume_from.trained_ms, found)
    del found  # a second model's worth of memory
    if stopped():
        raise loading.Stopped
    # The sizes are for the keeper, should the kernel end this process for lack of memory.
    sizes = {"batch_size": settings.batch_size, "image_size": settings.image_size}
    control.say("started", weights=weights, step=progress.step, epoch=progress.epochs, **sizes)
    return training.run()


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
    return settings.batch_size, settings.image_size


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
        lines.append(f"warning: {len(loaded.warnings):,} images are skipped")
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


def _message(end: End, progress: Progress) -> str:
    done = f"{progress.step:,} steps ({progress.epochs:,} complete epochs)"
    if end is End.STOP:
        return f"stopped after {done}; a checkpoint of that step is saved"
    accuracy = f"accuracy {progress.metrics[retention.ACCURACY]:.4f}"
    if end is End.PATIENCE:
        return f"finished early after {done} without further improvement: {accuracy}"
    return f"finished after {done}: {accuracy}"
