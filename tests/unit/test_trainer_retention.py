"""Which checkpoints are saved and kept."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.training.v1 import training_pb2
from runner_agent.trainer.retention import PRIMARY, Saved, Strategy, is_best

LATEST = training_pb2.CHECKPOINT_POLICY_LATEST
EVERY_N = training_pb2.CHECKPOINT_POLICY_EVERY_N_EVALUATIONS
LOWEST_LOSS = training_pb2.CHECKPOINT_POLICY_LOWEST_VALIDATION_LOSS
BEST_METRIC = training_pb2.CHECKPOINT_POLICY_BEST_METRIC

scores = st.one_of(st.none(), st.integers(0, 6).map(float), st.just(-math.inf))
histories = st.lists(scores, min_size=1, max_size=15).map(
    lambda values: [Saved(f"step-{index}", value) for index, value in enumerate(values)]
)
strategies = st.builds(
    Strategy,
    policy=st.sampled_from([LATEST, EVERY_N, LOWEST_LOSS, BEST_METRIC]),
    every_n_evaluations=st.integers(1, 4),
    keep_best=st.integers(1, 4),
)


@given(strategy=strategies, saved=histories)
def test_the_newest_checkpoint_is_always_kept(strategy: Strategy, saved: list[Saved]) -> None:
    assert saved[-1].name in strategy.kept(saved)


@given(strategy=strategies, saved=histories)
def test_a_dropped_checkpoint_never_comes_back(strategy: Strategy, saved: list[Saved]) -> None:
    dropped: set[str] = set()
    for count in range(1, len(saved) + 1):
        names = {checkpoint.name for checkpoint in saved[:count]}
        kept = strategy.kept(saved[:count])
        assert kept <= names
        assert not kept & dropped
        dropped |= names - kept


@given(saved=histories, keep_best=st.integers(1, 4), policy=st.sampled_from([LOWEST_LOSS, BEST_METRIC]))
def test_nothing_better_than_a_kept_one_is_dropped(saved: list[Saved], keep_best: int, policy: int) -> None:
    kept = Strategy(policy, keep_best=keep_best).kept(saved)
    assert len(kept) <= keep_best + 1
    evaluated = [checkpoint for checkpoint in saved if checkpoint.score is not None]
    best = [checkpoint.score for checkpoint in evaluated if checkpoint.name in kept]
    assert len(best) >= min(keep_best, len(evaluated))
    without_newest = [checkpoint.score for checkpoint in evaluated if checkpoint.name in kept - {saved[-1].name}]
    dropped = [checkpoint.score for checkpoint in evaluated if checkpoint.name not in kept]
    assert all(left <= stays for left in dropped if left is not None for stays in without_newest if stays is not None)


@given(saved=histories)
def test_latest_keeps_one_and_every_n_keeps_all(saved: list[Saved]) -> None:
    assert Strategy(LATEST).kept(saved) == {saved[-1].name}
    assert Strategy(EVERY_N).kept(saved) == {checkpoint.name for checkpoint in saved}


def test_only_every_nth_evaluation_is_saved_and_the_last_one() -> None:
    strategy = Strategy(EVERY_N, every_n_evaluations=3)
    assert [number for number in range(1, 9) if strategy.due(number, last=number == 8)] == [3, 6, 8]
    assert all(Strategy(BEST_METRIC, every_n_evaluations=3).due(number, last=False) for number in range(1, 9))


@pytest.mark.parametrize("policy", [LATEST, EVERY_N, BEST_METRIC])
def test_accuracy_measures_unless_the_loss_was_chosen(policy: int) -> None:
    metrics = {"validation/loss": 0.5, "validation/accuracy": 0.9}
    assert Strategy(policy).score(metrics) == 0.9
    assert Strategy(LOWEST_LOSS).score(metrics) == -0.5


@pytest.mark.parametrize("task", [training_pb2.TASK_DETECTION, training_pb2.TASK_SEGMENTATION])
def test_each_task_is_measured_by_its_own_metric(task: int) -> None:
    metrics = {"validation/loss": 0.5, "validation/map": 0.3, "validation/miou": 0.3, "validation/accuracy": 0.9}
    assert Strategy(BEST_METRIC, metric=PRIMARY[task]).score(metrics) == 0.3


def test_not_a_number_is_worse_than_anything() -> None:
    score = Strategy(LOWEST_LOSS).score({"validation/loss": math.nan, "validation/accuracy": 0.1})
    assert not is_best(score, [Saved("a", -1e9)])
    assert Strategy(LOWEST_LOSS).kept([Saved("a", -3.0), Saved("b", score), Saved("c", -4.0)]) == {"a", "c"}


def test_of_equals_the_earlier_is_the_best_and_a_stop_is_never() -> None:
    assert is_best(0.9, [Saved("a", 0.8), Saved("b", None)])
    assert not is_best(0.9, [Saved("a", 0.9)])
    assert not is_best(None, [])
