"""When a training ends, and its learning rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.training.v1 import training_pb2
from runner_agent.trainer.limits import Limits, learning_rate, patience_is_over

MINUTE_NS = 60_000_000_000
ONE_CYCLE = training_pb2.SCHEDULE_ONE_CYCLE
SCHEDULES = [schedule for schedule in training_pb2.Schedule.values() if schedule]


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


@given(schedule=st.sampled_from(SCHEDULES), peak=st.floats(1e-6, 10), done=st.floats(0, 1))
def test_the_learning_rate_stays_between_its_end_and_its_peak(schedule: int, peak: float, done: float) -> None:
    assert peak / 1000 * 0.999 <= learning_rate(schedule, peak, done) <= peak * 1.001


def test_the_learning_rate_rises_to_its_peak_and_falls_to_its_end() -> None:
    rates = [learning_rate(ONE_CYCLE, 1.0, share / 100) for share in range(101)]
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


@pytest.mark.parametrize(
    ("schedule", "half_way", "end"),
    [
        (training_pb2.SCHEDULE_COSINE, 0.5417, 0.001),
        (training_pb2.SCHEDULE_LINEAR, 0.527, 0.001),
        (training_pb2.SCHEDULE_CONSTANT, 1.0, 1.0),
    ],
)
def test_other_schedules_warm_up_for_a_twentieth_and_then_take_their_own_way(
    schedule: int, half_way: float, end: float
) -> None:
    rates = [learning_rate(schedule, 1.0, share / 100) for share in range(101)]
    assert rates[0] == 1 / 25
    assert rates[5] == max(rates) == 1.0
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert (rates[50], rates[100]) == pytest.approx((half_way, end), abs=1e-3)
