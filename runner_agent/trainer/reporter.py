"""Tells what a training does: points to the spool, facts to the keeper, lines for people to the log."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from runner_agent.trainer.control import Control
from runner_agent.trainer.evaluation.base import Evaluation
from runner_agent.trainer.spool import Spool

# Reading a loss waits for the GPU, so losses are read some at a time; people see them within a fifth of a second.
FLUSH_INTERVAL_NS = 200_000_000
PROGRESS_INTERVAL_NS = 1_000_000_000


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
        matrix = None if found.matrix is None else (found.matrix.classes, found.matrix.counts)
        self.spool.evaluation(step, epoch, found.metrics, matrix)
        self.control.say_evaluation(step, epoch, found.metrics)

    def checkpoint(self, checkpoint: dict[str, Any], removed: list[str]) -> None:
        """Tell a checkpoint that is durable, and the names of those that are removed because of it."""
        self.control.say("checkpoint", checkpoint={**checkpoint, "removed": removed})

    def finish(self) -> None:
        """Nothing more comes: what was dropped is told, what waited for the disk tried once more."""
        self.spool.finish()

    def line(self, text: str) -> None:
        """A line for people."""
        print(text, flush=True)
