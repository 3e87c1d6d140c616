"""When a training ends, and the learning rate on the way there. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# The one-cycle policy (Smith & Topin, https://arxiv.org/abs/1708.07120): a quarter of the way up, then down.
WARM_UP_SHARE = 0.25
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


def learning_rate(peak: float, share_done: float) -> float:
    """One cycle: from peak/25 up to the peak, then down to peak/1000, both along a cosine."""
    if share_done < WARM_UP_SHARE:
        return _cosine(peak / START_DIVISOR, peak, share_done / WARM_UP_SHARE)
    return _cosine(peak, peak / END_DIVISOR, (share_done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def patience_is_over(scores: Sequence[float], patience: int) -> bool:
    """True if the last `patience` evaluations brought no score above the best before them. Zero patience: never."""
    if patience == 0 or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
