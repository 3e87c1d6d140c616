"""When a quota is used up: the moment to the millisecond, and what is announced, once."""

from dataclasses import replace

from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.events.v1 import job_pb2 as job
from protos.events.v1.workspace_pb2 import QuotaExhausted, QuotaReplenished, QuotaThresholdReached
from services.quota.domain.attempt import Attempt, evolve, unknown
from services.quota.domain.budget import Budget, decide, due_at_ms, used
from services.quota.domain.minutes import bounds
from tests.support.quota import NOON_MS, assigned

MILLIMINUTE = 60_000_000
START_MS, END_MS = bounds("2026-11")


def running(rate_micros: int = 1_000_000, start_ms: int = NOON_MS, deadline_ms: int = 0) -> Attempt:
    attempt = evolve(unknown("ws_1", "jb_1"), assigned("at_1", rate_micros), 1)
    attempt = evolve(attempt, job.JobStarted(attempt_id="at_1", started_at_ms=start_ms), 2)
    if deadline_ms:
        attempt = evolve(attempt, job.JobUnreachable(attempt_id="at_1", deadline_at_ms=deadline_ms), 3)
    return attempt


def budget(
    quota: int, *attempts: Attempt, settled: int = 0, said: tuple[int, ...] = (), exhausted: bool = False
) -> Budget:
    return Budget("2026-11", 42, quota, settled * MILLIMINUTE, attempts, frozenset(said), exhausted)


def told(events: list[Message]) -> list[int | str]:
    """Percents of thresholds, `exhausted` and `replenished`."""
    found: list[int | str] = []
    for event in events:
        if isinstance(event, QuotaThresholdReached):
            found.append(event.percent)
        else:
            assert isinstance(event, QuotaExhausted | QuotaReplenished)
            found.append("exhausted" if isinstance(event, QuotaExhausted) else "replenished")
    return found


attempts = st.builds(
    running,
    st.integers(0, 50_000_000),
    st.integers(START_MS - 10**8, END_MS),
    st.one_of(st.just(0), st.integers(NOON_MS - 10**8, END_MS + 10**8)),
)
budgets = st.builds(
    lambda quota, settled, some, said, exhausted: budget(
        quota, *some, settled=settled, said=tuple(said), exhausted=exhausted
    ),
    st.integers(0, 10**8),
    st.integers(-(10**5), 10**8),
    st.lists(attempts, max_size=5),
    st.sets(st.sampled_from([75, 90, 100])),
    st.booleans(),
)


@settings(max_examples=300)
@given(budgets, st.integers(START_MS, END_MS - 1))
def test_nothing_is_to_be_said_before_it_is_due_and_something_when_it_is(known: Budget, now_ms: int) -> None:
    if decide(known, now_ms):
        return
    due_ms = due_at_ms(known, now_ms)
    assert now_ms <= due_ms <= END_MS
    assert decide(known, max(due_ms - 1, now_ms)) == []
    assert due_ms == END_MS or decide(known, due_ms)


@given(budgets, st.integers(START_MS, END_MS - 1))
def test_what_was_said_is_not_said_again(known: Budget, now_ms: int) -> None:
    said = told(decide(known, now_ms))
    percents = frozenset(one for one in said if isinstance(one, int))
    after = replace(
        known,
        reached_percent=known.reached_percent | percents,
        exhausted="exhausted" in said or (known.exhausted and "replenished" not in said),
    )
    assert decide(after, now_ms) == []


@given(budgets, st.integers(START_MS, END_MS - 2))
def test_a_quota_is_not_exhausted_while_a_millisecond_of_it_remains(known: Budget, now_ms: int) -> None:
    if "exhausted" in told(decide(known, now_ms)):
        assert used(known, now_ms) >= known.quota_milliminutes * MILLIMINUTE


def test_the_rates_of_all_running_attempts_add_up() -> None:
    # 10 minutes at 1 + 4 minutes a minute: 2 minutes.
    known = budget(10_000, running(1_000_000), running(4_000_000), said=(75, 90))
    assert due_at_ms(known, NOON_MS) == NOON_MS + 120_000


def test_thresholds_come_one_after_the_other_and_exhaustion_with_the_last() -> None:
    known = budget(1000, running())
    assert told(decide(known, NOON_MS + 44_999)) == []
    assert told(decide(known, NOON_MS + 45_000)) == [75]
    assert told(decide(known, NOON_MS + 54_000)) == [75, 90]
    assert told(decide(known, NOON_MS + 60_000)) == [75, 90, 100, "exhausted"]


@given(budgets, st.integers(START_MS, END_MS - 2))
def test_what_was_said_last_is_whether_minutes_remain(known: Budget, now_ms: int) -> None:
    said = told(decide(known, now_ms))
    assert not {"exhausted", "replenished"} <= set(said)
    exhausted = "exhausted" in said or (known.exhausted and "replenished" not in said)
    left = known.quota_milliminutes * MILLIMINUTE - used(known, now_ms)
    if left <= 0:
        assert exhausted
    elif left >= 1000 * MILLIMINUTE:
        assert not exhausted
    else:
        assert exhausted == (known.exhausted and not left >= known.quota_milliminutes * MILLIMINUTE)


def test_a_minute_given_back_opens_the_door_and_is_said_once_however_it_came() -> None:
    # What is settled is the sum of outcomes, corrections and adjustments: which of them it was makes no difference.
    known = budget(5000, settled=4000, said=(75, 90, 100), exhausted=True)
    (event,) = decide(known, NOON_MS)
    assert event == QuotaReplenished(period="2026-11", position=42, used_milliminutes=4000, quota_milliminutes=5000)
    assert decide(replace(known, exhausted=False), NOON_MS) == []


def test_less_than_a_minute_opens_nothing_for_waiting_jobs_to_be_stopped_in() -> None:
    assert decide(budget(5000, settled=4001, said=(75, 90, 100), exhausted=True), NOON_MS) == []
    assert told(decide(budget(500, settled=1, said=(75, 90, 100), exhausted=True), NOON_MS)) == []
    assert told(decide(budget(500, settled=0, said=(75, 90, 100), exhausted=True), NOON_MS)) == ["replenished"]


def test_a_refund_that_is_used_up_already_opens_nothing() -> None:
    # 500 given back of 1600 used.
    assert decide(budget(1000, settled=1100, said=(75, 90, 100), exhausted=True), NOON_MS) == []


def test_a_quota_of_nothing_is_used_up_at_once() -> None:
    assert told(decide(budget(0), NOON_MS)) == [75, 90, 100, "exhausted"]


def test_a_box_that_is_cut_off_stops_using_minutes_at_its_deadline() -> None:
    known = budget(1000, running(deadline_ms=NOON_MS + 50_000), said=(75,))
    assert due_at_ms(known, NOON_MS) == END_MS


def test_only_what_runs_within_the_month_counts() -> None:
    known = budget(1000, running(start_ms=START_MS - 3_600_000), said=(75, 90))
    assert due_at_ms(known, START_MS) == START_MS + 60_000


def test_exhaustion_carries_the_numbers_and_the_position() -> None:
    (event,) = decide(budget(1000, settled=1500, said=(75, 90, 100)), NOON_MS)
    assert event == QuotaExhausted(period="2026-11", position=42, used_milliminutes=1500, quota_milliminutes=1000)


def test_after_the_quota_is_set_anew_its_exhaustion_is_said_anew() -> None:
    known = budget(2000, settled=1500, said=(75, 90, 100), exhausted=False)
    assert decide(known, NOON_MS) == []
    assert told(decide(replace(known, quota_milliminutes=1000), NOON_MS)) == ["exhausted"]
