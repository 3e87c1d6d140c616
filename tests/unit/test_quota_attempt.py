"""The minutes fold: the rules of what an attempt costs, whatever way the facts arrive."""

from hypothesis import given
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.events.v1 import workspace_pb2 as workspace
from services.quota.domain.attempt import Attempt, charge, charge_by_period, interval, settled_by_period
from services.quota.domain.ledger import Ledger
from tests.support.quota import DAY_MS, NOON_MS, History, assigned, histories, record, settled_totals, slow_charge
from tests.support.quota import interval as charged

MINUTE_MS = 60_000
NOW_MS = NOON_MS + 100 * DAY_MS


def fold(records: list[EventRecord]) -> Ledger:
    ledger = Ledger()
    for one in records:
        ledger.take(one)
    return ledger


def attempt_of(*events: job.JobStarted | object) -> Attempt:
    records = [record(position, "jb_1", event) for position, event in enumerate(events, 1)]  # type: ignore[arg-type]
    return fold(records).attempts["at_1"]


def started(at_ms: int = NOON_MS) -> job.JobStarted:
    return job.JobStarted(attempt_id="at_1", started_at_ms=at_ms)


@st.composite
def several_histories(draw: st.DrawFn) -> list[History]:
    return [draw(histories(f"at_{number}")) for number in range(draw(st.integers(1, 4)))]


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[History], list[EventRecord]]:
    """Several attempts' facts woven into one log, each attempt's in their own order."""
    all_of_them = draw(several_histories())
    waiting = [list(history.events) for history in all_of_them]
    log: list[EventRecord] = []
    while any(waiting):
        number = draw(st.sampled_from([number for number, events in enumerate(waiting) if events]))
        log.append(record(len(log) + 1, all_of_them[number].job_id, waiting[number].pop(0)))
    return all_of_them, log


@given(logs(), st.integers(NOON_MS, NOW_MS))
def test_the_fold_is_the_rules_of_section_one(log: tuple[list[History], list[EventRecord]], now_ms: int) -> None:
    known, records = log
    attempts = fold(records).attempts
    for history in known:
        by_period = charge_by_period(attempts[history.attempt_id], now_ms)
        assert by_period == slow_charge(history.events, now_ms)
        assert charge(attempts[history.attempt_id], now_ms) == sum(by_period.values()) >= 0
        assert all(ms_micros > 0 for ms_micros in by_period.values())


@given(logs(), st.data())
def test_order_and_repetition_of_delivery_make_no_difference(
    log: tuple[list[History], list[EventRecord]], data: st.DataObject
) -> None:
    _, records = log
    repeated = data.draw(st.lists(st.sampled_from(records)))
    shuffled = data.draw(st.permutations([*records, *repeated]))
    assert fold(shuffled) == fold(records)


@given(logs(), st.data())
def test_a_batch_is_its_parts_one_after_the_other(
    log: tuple[list[History], list[EventRecord]], data: st.DataObject
) -> None:
    _, records = log
    cut = data.draw(st.integers(0, len(records)))
    first = fold(records[:cut])
    second = Ledger(dict(first.attempts), dict(first.adjustments))
    for one in records[cut:]:
        second.take(one)
    assert second == fold(records)


@given(histories(), st.integers(0, 10**6))
def test_a_running_charge_never_falls_while_time_passes(history: History, step_ms: int) -> None:
    attempt = fold([record(n, "jb_1", event) for n, event in enumerate(history.events, 1)]).attempts["at_1"]
    charges = [charge(attempt, NOON_MS + step * step_ms) for step in range(10)]
    assert charges == sorted(charges)


def test_what_never_started_costs_nothing() -> None:
    attempt = attempt_of(assigned("at_1"), job.JobFailed(attempt_id="at_1", interval=charged(0, NOON_MS)))
    assert charge(attempt, NOW_MS) == 0
    assert settled_by_period(attempt) == {}


def test_a_job_that_ends_without_an_attempt_costs_nothing() -> None:
    assert fold([record(1, "jb_1", job.JobKilled())]) == Ledger()


def test_the_grace_for_saving_a_checkpoint_is_free() -> None:
    ended = job.JobKilled(
        attempt_id="at_1",
        interval=job.ChargedInterval(
            started_at_ms=NOON_MS, charged_until_ms=NOON_MS + MINUTE_MS, ended_at_ms=NOON_MS + MINUTE_MS + 30_000
        ),
    )
    assert charge(attempt_of(assigned("at_1"), started(), ended), NOW_MS) == MINUTE_MS * 1_000_000


def test_time_cut_off_is_charged_up_to_the_deadline_and_not_beyond() -> None:
    lost = job.JobUnreachable(attempt_id="at_1", last_contact_at_ms=NOON_MS, deadline_at_ms=NOON_MS + 15 * MINUTE_MS)
    attempt = attempt_of(assigned("at_1"), started(), lost)
    assert charge(attempt, NOON_MS + 10 * MINUTE_MS) == 10 * MINUTE_MS * 1_000_000
    assert charge(attempt, NOON_MS + 99 * MINUTE_MS) == 15 * MINUTE_MS * 1_000_000


def test_a_box_that_is_reached_again_accrues_as_if_nothing_had_happened() -> None:
    lost = job.JobUnreachable(attempt_id="at_1", last_contact_at_ms=NOON_MS, deadline_at_ms=NOON_MS + MINUTE_MS)
    attempt = attempt_of(assigned("at_1"), started(), lost, job.JobReachable(attempt_id="at_1"))
    assert charge(attempt, NOON_MS + 5 * MINUTE_MS) == 5 * MINUTE_MS * 1_000_000


def test_the_truth_replaces_the_presumption_in_the_month_in_which_it_happened() -> None:
    month_end_ms = 1_796_083_200_000  # 2026-12-01
    presumed = job.JobKilled(
        attempt_id="at_1", interval=charged(month_end_ms - MINUTE_MS, month_end_ms + MINUTE_MS, presumed=True)
    )
    truth = job.JobOutcomeCorrected(
        attempt_id="at_1",
        corrects_position=3,
        interval=charged(month_end_ms - MINUTE_MS, month_end_ms - 20_000),
        finished=job.JobFinished(),
    )
    before = attempt_of(assigned("at_1"), started(month_end_ms - MINUTE_MS), presumed)
    after = attempt_of(assigned("at_1"), started(month_end_ms - MINUTE_MS), presumed, truth)
    assert settled_by_period(before) == {"2026-11": MINUTE_MS * 10**6, "2026-12": MINUTE_MS * 10**6}
    assert interval(before, 0).presumed
    assert settled_by_period(after) == {"2026-11": 40_000 * 10**6}
    assert not interval(after, 0).presumed


def test_a_second_outcome_that_corrects_nothing_is_not_the_truth() -> None:
    first = job.JobFinished(attempt_id="at_1", interval=charged(NOON_MS, NOON_MS + MINUTE_MS))
    late = job.JobKilled(attempt_id="at_1", interval=charged(NOON_MS, NOON_MS + 9 * MINUTE_MS))
    assert attempt_of(assigned("at_1"), first, late) == attempt_of(assigned("at_1"), first)


def test_an_end_before_its_start_costs_nothing() -> None:
    ended = job.JobFinished(attempt_id="at_1", interval=charged(NOON_MS, NOON_MS - MINUTE_MS))
    assert charge(attempt_of(assigned("at_1"), ended), NOW_MS) == 0


def test_numbers_beyond_the_calendar_are_cut_not_refused() -> None:
    ended = job.JobFinished(attempt_id="at_1", interval=charged(-5, (1 << 62)))
    attempt = attempt_of(assigned("at_1", -3), ended, started(1 << 62))
    assert charge(attempt, NOW_MS) == 0


def test_an_adjustment_counts_once_however_often_it_is_delivered() -> None:
    adjusted = record(7, "ws_1", workspace.MinutesAdjusted(period="2026-11", milliminutes=-1500), kind="workspace")
    assert fold([adjusted, adjusted]).adjustments == {7: ("ws_1", "2026-11", -1500 * 60_000_000)}


def test_the_attempts_of_one_job_add_up() -> None:
    records = [
        record(position, "jb_1", event)
        for position, event in enumerate(
            [
                assigned("at_1", 2_500_000),
                job.JobFailed(attempt_id="at_1", interval=charged(NOON_MS, NOON_MS + MINUTE_MS)),
                assigned("at_2", 1_500_000),
                job.JobFinished(attempt_id="at_2", interval=charged(NOON_MS, NOON_MS + 2 * MINUTE_MS)),
            ],
            1,
        )
    ]
    totals = settled_totals(fold(records).attempts.values())
    assert totals == {"2026-11": MINUTE_MS * (2_500_000 + 2 * 1_500_000)}
