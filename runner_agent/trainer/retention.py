"""Which checkpoints are saved and which are kept. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protos.training.v1 import training_pb2

LOSS = "validation/loss"
ACCURACY = "validation/accuracy"
MAP = "validation/map"
MIOU = "validation/miou"

# Task → its primary metric: what BEST_METRIC and the patience go by. Higher is better.
PRIMARY: Mapping[int, str] = {
    training_pb2.TASK_CLASSIFICATION: ACCURACY,
    training_pb2.TASK_DETECTION: MAP,
    training_pb2.TASK_SEGMENTATION: MIOU,
}


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written. `score` is None for one saved without an evaluation, at a stop."""

    name: str
    score: float | None


@dataclass(frozen=True)
class Strategy:
    """A checkpoint strategy with its defaults filled in."""

    policy: int
    every_n_evaluations: int = 1
    keep_best: int = 1
    # The task's; see PRIMARY.
    metric: str = ACCURACY

    def score(self, metrics: Mapping[str, float]) -> float:
        """How good an evaluation is by the strategy's measure; higher is better, not-a-number is worst."""
        lowest_loss = self.policy == training_pb2.CHECKPOINT_POLICY_LOWEST_VALIDATION_LOSS
        score = -metrics[LOSS] if lowest_loss else metrics[self.metric]
        return -math.inf if math.isnan(score) else score

    def due(self, evaluation: int, *, last: bool) -> bool:
        """Whether the n-th evaluation, counted from 1, is saved. The last one always is."""
        every_n = self.policy == training_pb2.CHECKPOINT_POLICY_EVERY_N_EVALUATIONS
        return last or not every_n or evaluation % self.every_n_evaluations == 0

    def kept(self, saved: Sequence[Saved]) -> frozenset[str]:
        """Names that stay, of those saved so far in order. The newest always stays; of equals, the earlier."""
        if self.policy == training_pb2.CHECKPOINT_POLICY_EVERY_N_EVALUATIONS:
            return frozenset(checkpoint.name for checkpoint in saved)
        newest = saved[-1:]
        if self.policy == training_pb2.CHECKPOINT_POLICY_LATEST:
            return frozenset(checkpoint.name for checkpoint in newest)
        scored = [(checkpoint.score, checkpoint.name) for checkpoint in saved if checkpoint.score is not None]
        best = sorted(scored, key=lambda entry: -entry[0])[: self.keep_best]
        return frozenset([name for _, name in best] + [checkpoint.name for checkpoint in newest])


def is_best(score: float | None, earlier: Sequence[Saved]) -> bool:
    """True if no earlier checkpoint is as good."""
    return score is not None and all(other.score is None or other.score < score for other in earlier)
