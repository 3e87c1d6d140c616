"""Tells what a training does: points to the spool, facts to the keeper, lines for people to the log."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict
from torch import Tensor

from protos.metrics.v1 import ingest_pb2, preview_pb2
from runner_agent.trainer.control import Control
from runner_agent.trainer.evaluation.base import Evaluation
from runner_agent.trainer.spool import Spool, numbers

# Reading a loss waits for the GPU, so losses are read some at a time; people see them within a fifth of a second.
FLUSH_INTERVAL_NS = 200_000_000
PROGRESS_INTERVAL_NS = 1_000_000_000
# Metrics of more classes are not told one by one.
MAX_TOLD_CLASSES = 1000


@dataclass
class Reporter:
    """The voice of one training. It neither waits nor fails where the disk does not take its records."""

    control: Control
    spool: Spool
    wall_ms: Callable[[], int]
    boottime_ns: Callable[[], int]
    # Of the newest step that was flushed.
    last_loss: float = math.nan
    _pending: list[tuple[int, int, Tensor, float]] = field(default_factory=list)
    _flushed_ns: int = 0
    _progress_ns: int = 0

    def step(self, step: int, epoch: int, loss: Tensor, learning_rate: float) -> None:
        """Record an optimiser step; the first one is told at once."""
        self._pending.append((self.wall_ms(), step, loss.detach(), learning_rate))
        now_ns = self.boottime_ns()
        if now_ns - self._flushed_ns >= FLUSH_INTERVAL_NS:
            self.flush()
            self._flushed_ns = now_ns
        if now_ns - self._progress_ns >= PROGRESS_INTERVAL_NS:
            self.control.say("progress", step=step, epoch=epoch)
            self._progress_ns = now_ns

    def flush(self) -> None:
        """Write the steps recorded so far."""
        losses = [loss.item() for _, _, loss, _ in self._pending]
        self.spool.points(
            [
                (at_ms, step, {"train/loss": loss, "train/learning_rate": learning_rate})
                for (at_ms, step, _, learning_rate), loss in zip(self._pending, losses, strict=True)
            ]
        )
        self._pending.clear()
        self.last_loss = losses[-1] if losses else self.last_loss

    def evaluation(self, step: int, epoch: int, found: Evaluation) -> None:
        """Record an evaluation, as points of its series too, and tell it."""
        self.spool.points([(self.wall_ms(), step, found.metrics)], precious=True)
        evaluation: dict[str, Any] = {"step": step, "epoch": epoch, "metrics": numbers(found.metrics)}
        if len(found.classes) <= MAX_TOLD_CLASSES:
            evaluation["classes"] = [
                {"name": one.name, "metrics": numbers(one.metrics), "support": one.support} for one in found.classes
            ]
        if found.matrix is not None:
            evaluation["confusion_matrix"] = {
                "classes": list(found.matrix.classes),
                # As numbers, which are half as long as what proto JSON makes of them.
                "counts": list(found.matrix.counts),
                "background": found.matrix.background,
                "iou_threshold": found.matrix.iou_threshold,
            }
        predictions = [MessageToDict(one, preserving_proto_field_name=True) for one in found.predictions]
        self.spool.evaluation(evaluation, predictions)
        self.control.say_evaluation(step, epoch, found.metrics)

    def preview_images(self, images: Iterable[preview_pb2.PreviewImage]) -> None:
        """Record the images that each evaluation's predictions are about; once."""
        for image in images:
            self.spool.preview_image(MessageToDict(image, preserving_proto_field_name=True))

    def facts(self, facts: ingest_pb2.TrainingFacts) -> None:
        """Record what is trained on what; once."""
        self.spool.facts(MessageToDict(facts, preserving_proto_field_name=True))

    def checkpoint(self, checkpoint: dict[str, Any], removed: list[str]) -> None:
        """Tell a checkpoint that is durable, and the names of those that are removed because of it."""
        self.control.say("checkpoint", checkpoint={**checkpoint, "removed": removed})

    def finish(self) -> None:
        """Nothing more comes: what was dropped is told, what waited for the disk tried once more."""
        self.spool.finish()

    def line(self, text: str) -> None:
        """A line for people."""
        print(text, flush=True)
