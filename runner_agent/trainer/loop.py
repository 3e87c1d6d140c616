"""The training loop, on lightning's Fabric.

Fabric and not lightning's Trainer: the loop must end after any step, save what it has and say so, and its first
step must come at once; Fabric leaves the loop to us and brings devices, precision and processes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count

import torch
from lightning.fabric import Fabric
from torch import distributed

from protos.training.v1 import training_pb2
from runner_agent.trainer import checkpoints, limits, precision, retention
from runner_agent.trainer.batch import Batch
from runner_agent.trainer.datasets.loading import Data, epoch_batches
from runner_agent.trainer.evaluation import evaluators, facts, previews
from runner_agent.trainer.evaluation.run import evaluate
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.pixels import DEVIATION, MEAN
from runner_agent.trainer.reporter import Reporter
from runner_agent.trainer.resume import Found
from runner_agent.trainer.settings import Settings
from runner_agent.trainer.spool import number, numbers
from runner_agent.trainer.steps import Steps, memory_format

# A matrix of more classes is too large to send and to look at.
MAX_MATRIX_CLASSES = 200


# The primary metrics of the tasks, for people.
_METRIC_NAMES = {retention.ACCURACY: "accuracy", retention.MAP: "mAP", retention.MIOU: "mIoU"}


def shown(metrics: Mapping[str, float]) -> str:
    """The task's primary metric for people, for example `accuracy 0.9721`; empty where none was measured."""
    return ", ".join(f"{name} {metrics[metric]:.4f}" for metric, name in _METRIC_NAMES.items() if metric in metrics)


class End(IntEnum):
    """Why the loop ends; where processes differ, the greatest holds for all."""

    NOT_YET = 0
    LIMIT = 1
    PATIENCE = 2
    STOP = 3


@dataclass
class Progress:
    """How far a training has come; also read when it fails."""

    step: int = 0
    # Complete ones.
    epochs: int = 0
    # Of the last evaluation.
    metrics: dict[str, float] = field(default_factory=dict)


class Training:
    """One training from its first step to its end."""

    def __init__(
        self,
        settings: Settings,
        data: Data,
        model: Model,
        fabric: Fabric,
        reporter: Reporter,
        saved: checkpoints.CheckpointFolder,
        progress: Progress,
        stopped: Callable[[], bool],
        boottime_ns: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._data = data
        self._plain_model = model.to(memory_format=memory_format(model))  # type: ignore[call-overload]
        self._fabric = fabric
        self._reporter = reporter
        self._saved = saved
        self._progress = progress
        self._stopped = stopped
        self._boottime_ns = boottime_ns
        self._batch_size = min(settings.batch_size, len(data.train))
        self._steps_per_epoch = len(data.train) // self._batch_size
        self._limits = limits.Limits(settings.epochs, settings.steps, settings.minutes)
        self._scores: list[float] = []
        self._evaluated_step = 0
        # What earlier attempts have trained.
        self._trained_ns = 0
        self._steps = Steps(settings, self._batch_size, self._plain_model, fabric)
        self._previews: tuple[int, ...] | None = None if settings.previews else ()

    def go_on(self, trained_ms: int, found: Found | None) -> None:
        """Repeat a training after `trained_ms` of earlier attempts, from a checkpoint where there is one.

        Raises what `Found.restore` raises.
        """
        self._trained_ns = trained_ms * 1_000_000
        if found is None:
            return
        scaler = precision.scaler_of(self._fabric)
        found.restore(self._plain_model, self._steps.optimizer, self._data.classes, scaler)
        self._saved.take_up(found.history)
        self._scores, self._evaluated_step = list(found.scores), found.evaluated_step
        self._progress.step, self._progress.metrics = found.step, dict(found.metrics)
        self._progress.epochs = found.step // self._steps_per_epoch

    def run(self) -> End:
        """Train until a limit, the patience or a stop; the newest state is saved when this returns."""
        began_ns = self._boottime_ns() - self._trained_ns
        interval = self._settings.evaluation_interval_steps or self._steps_per_epoch
        told = facts.of(self._settings, self._data, self._fabric, self._batch_size, self._steps_per_epoch)
        self._reporter.facts(told)
        self._plain_model.train()
        if self._progress.step:
            end = self._first_end(interval, self._boottime_ns() - began_ns)
            if end is not End.NOT_YET:
                return end
        complete, skipped = divmod(self._progress.step, self._steps_per_epoch)
        for epoch in count(complete + 1):
            batches = epoch_batches(self._data.train, self._batch_size, self._settings.seed, epoch)
            batches, skipped = batches[skipped:], 0
            for parts in self._steps.batches(self._data.source.batches(self._steps.shares(batches))):
                self._step(parts, epoch, self._boottime_ns() - began_ns)
                end = self._agree(self._end(self._boottime_ns() - began_ns))
                if end is not End.STOP and (end is End.LIMIT or self._progress.step % interval == 0):
                    end = max(end, self._evaluate(epoch, last=end is End.LIMIT))
                if end is End.STOP:
                    self._save(epoch, {})
                if end is not End.NOT_YET:
                    return end
        raise AssertionError("unreachable: the epochs are endless")

    def _first_end(self, interval: int, elapsed_ns: int) -> End:
        """What was still to be done after the step of the checkpoint."""
        step = self._progress.step
        end = self._agree(self._end(elapsed_ns))
        due = end is End.LIMIT or (end is End.NOT_YET and step % interval == 0)
        if due and self._evaluated_step != step:
            end = max(end, self._evaluate(math.ceil(step / self._steps_per_epoch), last=end is End.LIMIT))
        elif limits.patience_is_over(self._scores, self._settings.patience):
            end = max(end, End.PATIENCE)
        return end

    def _step(self, parts: Sequence[Batch], epoch: int, elapsed_ns: int) -> None:
        done = self._limits.share_done(self._progress.step, elapsed_ns, self._steps_per_epoch)
        learning_rate = limits.learning_rate(self._settings.schedule, self._settings.learning_rate, done)
        loss = self._steps.take(parts, self._progress.step + 1, learning_rate)
        self._progress.step += 1
        self._progress.epochs = self._progress.step // self._steps_per_epoch
        self._reporter.step(self._progress.step, epoch, loss, learning_rate)

    def _end(self, elapsed_ns: int) -> End:
        if self._stopped():
            return End.STOP
        last_step = self._limits.last_step(self._steps_per_epoch)
        at_last_step = last_step is not None and self._progress.step >= last_step
        return End.LIMIT if at_last_step or self._limits.time_is_up(elapsed_ns) else End.NOT_YET

    def _agree(self, end: End) -> End:
        """Processes see a stop and the clock at different moments, but must end after the same step."""
        if self._fabric.world_size == 1:
            return end
        agreed = torch.tensor(int(end), device=self._fabric.device)
        distributed.all_reduce(agreed, distributed.ReduceOp.MAX)
        return End(int(agreed.item()))

    def _evaluate(self, epoch: int, *, last: bool) -> End:
        """Evaluate, tell, and save where the strategy says so; says whether the training ends because of it."""
        fabric, step = self._fabric, self._progress.step
        held_out = self._data.validation[fabric.global_rank :: fabric.world_size]
        # Without gradients twice as many images fit.
        size = 2 * self._steps.part_size()
        batches = [held_out[start : start + size] for start in range(0, len(held_out), size)]
        # Several processes that wait for each other's counts cannot leave half-way.
        stopped = self._stopped if fabric.world_size == 1 else bool
        classes = self._data.classes
        matrix = self._settings.confusion_matrix and len(classes) <= MAX_MATRIX_CLASSES
        evaluator = evaluators.make(
            self._settings.task, classes, fabric.device, with_matrix=matrix, previews=self._preview_images()
        )
        found = evaluate(self._plain_model, self._data.source.batches(batches), evaluator, fabric, stopped)
        if found is None:
            return End.STOP
        self._reporter.flush()
        metrics = self._progress.metrics = found.metrics
        self._evaluated_step = step
        self._reporter.evaluation(step, epoch, found)
        of_epochs = f"/{self._settings.epochs}" if self._settings.epochs else ""
        self._reporter.line(
            f"epoch {epoch}{of_epochs} step {step} loss {self._reporter.last_loss:.4f} "
            f"validation loss {metrics[retention.LOSS]:.4f} {shown(metrics)}"
        )
        if not math.isfinite(metrics[retention.LOSS]):
            self._reporter.line("warning: the loss is not a number any more; choose a lower learning_rate")
        self._scores.append(self._saved.strategy.score(metrics))
        impatient = limits.patience_is_over(self._scores, self._settings.patience)
        if self._saved.strategy.due(len(self._scores), last=last or impatient):
            self._save(epoch, metrics, final=last or impatient)
        return End.PATIENCE if impatient and not last else End.NOT_YET

    def _preview_images(self) -> tuple[int, ...]:
        """Indices of the preview images, which are told when they are first asked for."""
        if self._previews is None:
            self._previews = previews.choose(self._data, self._settings.seed)
            self._reporter.preview_images(previews.images(self._data, self._previews))
        return self._previews

    def _save(self, epoch: int, metrics: dict[str, float], *, final: bool = True) -> None:
        """Save the state of this step. A disk that does not take it ends the training only where it is the last."""
        step = self._progress.step
        self._reporter.flush()
        if not self._fabric.is_global_zero or self._saved.has(step):
            return
        about = {
            "task": training_pb2.Task.Name(self._settings.task),
            "architecture_id": self._settings.architecture_id,
            "family": self._settings.family,
            "config_json": self._settings.config_json,
            "classes": self._data.classes,
            "image_size": self._settings.image_size,
            "mean": MEAN,
            "deviation": DEVIATION,
            "seed": self._settings.seed,
            "batch_size": self._settings.batch_size,
            "scaler": self._fabric.strategy.precision.state_dict(),
            "evaluated": {
                "step": self._evaluated_step,
                "metrics": numbers(self._progress.metrics),
                "scores": [number(score) for score in self._scores],
            },
        }
        try:
            self._saved.save(step, epoch, metrics, checkpoints.state(self._plain_model, self._steps.optimizer), about)
        except OSError as error:
            if final:
                raise
            self._reporter.line(f"warning: no checkpoint of step {step} ({error}); the next one will be tried")
