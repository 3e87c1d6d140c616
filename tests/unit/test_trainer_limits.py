"""When a training ends, and its learning rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_agent.trainer.limits import Limits, learning_rate, patience_is_over

MINUTE_NS = 60_000_000_000


@pytest.mark.parametrize(
    ("limits", "steps_per_epoch", "last_step"),
    [
        (Limits(3, 0, 0), 22, 66),
        (Limits(0, 50, 0), 22, 50),
        (Limits(3, 50, 0), 22, 50),
        (Limits(2, 50, 0), 22, 44),
        (Limits(0, 0, 5), 22, None),
    ],
)
def test_the_first_limit_that_is_reached_ends_a_training(
    limits: Limits, steps_per_epoch: int, last_step: int | None
) -> None:
    assert limits.last_step(steps_per_epoch) == last_step


def test_minutes_end_a_training_exactly_when_they_are_over() -> None:
    assert not Limits(0, 0, 2).time_is_up(2 * MINUTE_NS - 1)
    assert Limits(0, 0, 2).time_is_up(2 * MINUTE_NS)
    assert not Limits(1, 0, 0).time_is_up(10**18)


@given(step=st.integers(0, 1000), elapsed_ns=st.integers(0, 10**15))
def test_a_slower_box_trains_the_same_where_steps_limit_the_training(step: int, elapsed_ns: int) -> None:
    assert Limits(10, 0, 60).share_done(step, elapsed_ns, 100) == min(1.0, step / 1000)


def test_time_moves_the_learning_rate_where_only_minutes_limit_the_training() -> None:
    assert Limits(0, 0, 4).share_done(7, MINUTE_NS, 100) == 0.25
    assert Limits(0, 0, 4).share_done(7, 9 * MINUTE_NS, 100) == 1.0


@given(peak=st.floats(1e-6, 10), done=st.floats(0, 1))
def test_the_learning_rate_stays_between_its_end_and_its_peak(peak: float, done: float) -> None:
    assert peak / 1000 * 0.999 <= learning_rate(peak, done) <= peak * 1.001


def test_the_learning_rate_rises_to_its_peak_and_falls_to_its_end() -> None:
    rates = [learning_rate(1.0, share / 100) for share in range(101)]
    assert rates[25] == max(rates) == 1.0
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] == pytest.approx(0.001)


@given(scores=st.lists(st.integers(0, 5).map(float), max_size=12), patience=st.integers(1, 4))
def test_patience_ends_a_training_exactly_after_that_many_evaluations_without_a_better_one(
    scores: list[float], patience: int
) -> None:
    since_best = len(scores) - 1 - scores.index(max(scores)) if scores else 0
    assert patience_is_over(scores, patience) == (since_best >= patience)
    assert not patience_is_over(scores, 0)
