"""When a training ends, and the learning rate on the way there. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from protos.training.v1 import training_pb2

# The one-cycle policy (Smith & Topin, https://arxiv.org/abs/1708.07120): a quarter of the way up, then down.
ONE_CYCLE_WARM_UP_SHARE = 0.25
# The others': enough for a transformer's first steps to do no harm (https://arxiv.org/abs/1706.02677, section 2.2).
WARM_UP_SHARE = 0.05
START_DIVISOR = 25.0
END_DIVISOR = 1000.0


@dataclass(frozen=True)
class Limits:
    """Zero means no limit of that kind; one of epochs, steps and minutes is set."""

    epochs: int
    steps: int
    minutes: int

    def last_step(self, steps_per_epoch: int) -> int | None:
        """The step after which the training ends; None if only time ends it."""
        ends = [end for end in (self.epochs * steps_per_epoch, self.steps) if end > 0]
        return min(ends) if ends else None

    def time_is_up(self, elapsed_ns: int) -> bool:
        """True once the minutes of training are over."""
        return self.minutes > 0 and elapsed_ns >= self.minutes * 60_000_000_000

    def share_done(self, step: int, elapsed_ns: int, steps_per_epoch: int) -> float:
        """How much of the training is done, 0 to 1. Time counts only where nothing else limits the training, so that
        the same seed gives the same training on a slower box."""
        last_step = self.last_step(steps_per_epoch)
        done = step / last_step if last_step is not None else elapsed_ns / (self.minutes * 60_000_000_000)
        return min(1.0, done)


def learning_rate(schedule: int, peak: float, share_done: float) -> float:
    """The learning rate when this share of the training is done, 0 to 1. All begin at peak/25.

    One cycle: up to the peak along a cosine for the first quarter, then down to peak/1000 along one. The others: up to
    the peak along a line for the first twentieth, then down to peak/1000 along a cosine or a line, or constant.
    """
    start, end = peak / START_DIVISOR, peak / END_DIVISOR
    one_cycle = schedule == training_pb2.SCHEDULE_ONE_CYCLE
    warm_up = ONE_CYCLE_WARM_UP_SHARE if one_cycle else WARM_UP_SHARE
    if share_done < warm_up:
        return (_cosine if one_cycle else _line)(start, peak, share_done / warm_up)
    if schedule == training_pb2.SCHEDULE_CONSTANT:
        return peak
    down = _line if schedule == training_pb2.SCHEDULE_LINEAR else _cosine
    return down(peak, end, (share_done - warm_up) / (1 - warm_up))


def _line(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def patience_is_over(scores: Sequence[float], patience: int) -> bool:
    """True if the last `patience` evaluations brought no score above the best before them. Zero patience: never."""
    if patience == 0 or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
