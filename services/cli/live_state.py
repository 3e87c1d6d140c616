"""What the live view knows of one job. Pure: responses and the time come as arguments."""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from protos.metrics.v1.metrics_pb2 import Series
from protos.scheduler.v1 import job_pb2 as pb
from services.words.format import charged_milliminutes

# Enough for any terminal's width; beyond it every second point is dropped.
_MAX_POINTS = 2000

LOSS = "train/loss"
VALIDATION_LOSS = "validation/loss"
# Series over optimiser steps; those of the box go on over the attempts.
_OF_STEPS = ("train/", "validation/")

_OVER = (pb.JOB_STATE_FINISHED, pb.JOB_STATE_FAILED, pb.JOB_STATE_KILLED)


@dataclass
class Curve:
    """A series, thinned where it grows long; `last` and the extremes are exact."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    first_step: int = 0

    def extend(self, steps: Iterable[int], values: Iterable[float]) -> None:
        self.steps.extend(steps)
        self.first_step = self.first_step or (self.steps[0] if self.steps else 0)
        self.values.extend(values)
        while len(self.values) > _MAX_POINTS:
            del self.steps[-2::-2], self.values[-2::-2]

    def cut(self, step: int) -> None:
        """Forget what lies behind a step."""
        kept = bisect_right(self.steps, step)
        del self.steps[kept:], self.values[kept:]

    @property
    def last(self) -> float:
        """NaN where there is nothing yet."""
        return self.values[-1] if self.values else math.nan


class LiveState:
    """A job and its curves."""

    def __init__(self, job: pb.Job) -> None:
        self.job = job
        self.curves: dict[str, Curve] = {}
        self.reconnecting = False

    def take_job(self, job: pb.Job) -> None:
        """An older view, which a restart may bring, changes nothing."""
        if job.version < self.job.version:
            return
        if job.attempt > self.job.attempt:
            # The steps behind its checkpoint are made again.
            for name, curve in self.curves.items():
                if name.startswith(_OF_STEPS):
                    curve.cut(job.spec.resume_from.step)
        self.job = job

    def take_series(self, series: Iterable[Series], fresh: bool) -> None:
        """Add points; the first response of a stream holds everything and replaces what was known."""
        if fresh:
            self.curves = {}
        for one in series:
            self.curves.setdefault(one.name, Curve()).extend(one.steps, one.values)

    @property
    def over(self) -> bool:
        return self.job.state in _OVER

    @property
    def cut_off(self) -> bool:
        return bool(self.job.deadline_at_ms) and not self.over

    @property
    def step(self) -> int:
        """The newest step that is known; 0 before the first."""
        loss = self.curves.get(LOSS)
        seen = loss.steps[-1] if loss and loss.steps else 0
        return max(seen, self.job.evaluated_step, self.job.steps, self.job.spec.resume_from.step)

    def total_steps(self) -> int:
        """Steps after which the training ends; 0 while that is not known."""
        limits, per_epoch = self.job.spec.limits, self.steps_per_epoch()
        ends = [end for end in (limits.steps, limits.epochs * per_epoch) if end > 0]
        # With an epoch limit of unknown length the steps alone do not tell the end.
        return min(ends) if ends and (per_epoch or not limits.epochs) else 0

    def steps_per_epoch(self) -> int:
        """Known from the first evaluation or checkpoint on, exact where evaluations end epochs; 0 before."""
        job = self.job
        if job.spec.checkpoint_strategy.evaluation_interval_steps:
            return max((-(-c.step // c.epoch) for c in job.checkpoints if c.epoch), default=0)
        curve = self.curves.get(VALIDATION_LOSS)
        if curve and curve.first_step:
            return curve.first_step
        return max((c.step // c.epoch for c in job.checkpoints if c.epoch), default=0)

    def epoch(self) -> int:
        """The epoch of the newest step, from 1; 0 where it is not known."""
        per_epoch = self.steps_per_epoch()
        if self.over and self.job.epochs:
            return self.job.epochs
        return -(-self.step // per_epoch) if per_epoch else 0

    def elapsed_ms(self, now_ms: int) -> int:
        """How long the training process runs or ran, in all its attempts."""
        earlier_ms = sum(
            one.interval.charged_until_ms - one.interval.started_at_ms for one in self.job.earlier_attempts
        )
        interval = self.job.interval
        if not interval.started_at_ms:
            return earlier_ms
        until_ms = interval.ended_at_ms or interval.charged_until_ms or now_ms
        return earlier_ms + max(until_ms - interval.started_at_ms, 0)

    def _trained_ms(self, now_ms: int) -> int:
        """What counts towards the limit of minutes; of a job that it resumes, what had been trained there too."""
        interval = self.job.interval
        until_ms = interval.charged_until_ms or now_ms
        now = max(until_ms - interval.started_at_ms, 0) if interval.started_at_ms else 0
        return self.job.spec.resume_from.trained_ms + now

    def charged_ms(self, now_ms: int) -> int:
        """Charged time of the current attempt. One that is cut off is charged until its deadline at most."""
        interval = self.job.interval
        if not interval.started_at_ms:
            return 0
        until_ms = interval.charged_until_ms or min(now_ms, self.job.deadline_at_ms or now_ms)
        return max(until_ms - interval.started_at_ms, 0)

    def charged_milliminutes(self, now_ms: int) -> int:
        """Compute minutes × 1000 of all attempts so far."""
        ms_micros = self.charged_ms(now_ms) * self.job.rate_micros
        for one in self.job.earlier_attempts:
            ms_micros += (one.interval.charged_until_ms - one.interval.started_at_ms) * one.rate_micros
        return charged_milliminutes(ms_micros)

    def share_done(self, now_ms: int) -> float | None:
        """0 to 1, by whichever limit is nearer; None while it cannot be told."""
        if self.job.state == pb.JOB_STATE_FINISHED:
            return 1.0
        shares = []
        if total := self.total_steps():
            shares.append(self.step / total)
        if limit_minutes := self.job.spec.limits.minutes:
            shares.append(self._trained_ms(now_ms) / (limit_minutes * 60_000))
        return min(max(shares), 1.0) if shares else None

    def left_ms(self, now_ms: int) -> int | None:
        """About how long it will still take; None while too little is done to tell."""
        share, elapsed_ms = self.share_done(now_ms), self.elapsed_ms(now_ms)
        if share is None or share < 0.02 or elapsed_ms < 2000 or self.over:
            return None
        return round(self._trained_ms(now_ms) * (1 - share) / share)

    def quality(self) -> tuple[str, Curve] | None:
        """The metric of the task that is the higher the better, for example accuracy."""
        for name in sorted(self.curves):
            if name.startswith("validation/") and name != VALIDATION_LOSS and self.curves[name].values:
                return name, self.curves[name]
        return None
