"""Minutes of whole random histories: fold, replay and the slow implementation say the same, however facts arrive."""

import random
from collections import defaultdict
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.quota.domain.attempt import charge, charge_by_period
from services.quota.domain.ledger import Ledger
from services.quota.rows import COLUMNS, attempt_of, row_of
from tests.support.histories import BEGINNINGS_MS, DAY_MS, MINUTE_MS, histories, history
from tests.support.slow_minutes import minutes_by_job, minutes_by_month

# Minutes of a sum in ms × millionths, not rounded.
MS_MICROS_PER_MINUTE = 60_000 * 10**6

# How long after the last event is looked: at once, while boxes may still be cut off, and long after.
moments_after = st.sampled_from([0, 1, 7 * MINUTE_MS, 40 * DAY_MS])


def folded(records: list[EventRecord]) -> Ledger:
    ledger = Ledger()
    for one in records:
        ledger.take(one)
    return ledger


def by_month(ledger: Ledger, now_ms: int) -> dict[tuple[str, str], Fraction]:
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for attempt in ledger.attempts.values():
        for period, ms_micros in charge_by_period(attempt, now_ms).items():
            totals[attempt.workspace_id, period] += ms_micros
    for workspace_id, period, ms_micros in ledger.adjustments.values():
        totals[workspace_id, period] += ms_micros
    return {key: Fraction(amount, MS_MICROS_PER_MINUTE) for key, amount in totals.items() if amount}


def end_ms(records: list[EventRecord]) -> int:
    return records[-1].recorded_at_us // 1000


@settings(max_examples=150)
@given(histories(), moments_after)
def test_a_replay_is_the_slow_implementation_of_the_rules(records: list[EventRecord], after_ms: int) -> None:
    now_ms = end_ms(records) + after_ms
    assert by_month(folded(records), now_ms) == minutes_by_month(records, now_ms)


@given(histories(), moments_after, st.data())
def test_every_prefix_is_charged_by_the_rules_too(
    records: list[EventRecord], after_ms: int, data: st.DataObject
) -> None:
    prefix = records[: data.draw(st.integers(1, len(records)))]
    now_ms = end_ms(prefix) + after_ms
    assert by_month(folded(prefix), now_ms) == minutes_by_month(prefix, now_ms)


@given(histories(), st.data())
def test_a_fold_in_batches_stored_between_them_is_a_replay(records: list[EventRecord], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=5)))
    stored: dict[str, dict[str, object]] = {}
    adjustments: dict[int, tuple[str, str, int]] = {}
    for first, last in zip([0, *cuts], [*cuts, len(records)], strict=True):
        # As the projection does: rows in, the batch's fold, rows out.
        ledger = Ledger({key: attempt_of(row) for key, row in stored.items()}, adjustments)  # type: ignore[arg-type]
        for one in records[first:last]:
            ledger.take(one)
        stored = {key: dict(zip(COLUMNS, row_of(key, one), strict=True)) for key, one in ledger.attempts.items()}
        adjustments = ledger.adjustments
    assert Ledger({key: attempt_of(row) for key, row in stored.items()}, adjustments) == folded(records)  # type: ignore[arg-type]


@given(histories(), st.data())
def test_twice_late_and_out_of_order_is_the_same_minutes(records: list[EventRecord], data: st.DataObject) -> None:
    chance = data.draw(st.randoms(use_true_random=False))
    delivered = [*records, *(chance.choice(records) for _ in range(len(records) // 3))]
    chance.shuffle(delivered)
    now_ms = end_ms(records) + MINUTE_MS
    assert folded(delivered) == folded(records)
    assert minutes_by_month(delivered, now_ms) == minutes_by_month(records, now_ms)


@given(histories())
def test_the_jobs_of_a_month_add_up_to_it(records: list[EventRecord]) -> None:
    now_ms = end_ms(records) + MINUTE_MS
    totals: dict[str, int] = defaultdict(int)
    for attempt in folded(records).attempts.values():
        totals[attempt.job_id] += charge(attempt, now_ms)
    slow: dict[str, Fraction] = defaultdict(Fraction)
    for (_, _, job_id), minutes in minutes_by_job(records, now_ms).items():
        slow[job_id] += minutes
    fast = {job_id: Fraction(amount, MS_MICROS_PER_MINUTE) for job_id, amount in totals.items() if amount}
    assert fast == dict(slow)


@pytest.mark.parametrize("begin_ms", BEGINNINGS_MS)
def test_the_histories_hold_what_they_promise(begin_ms: int) -> None:
    """Or the laws above would hold of nothing."""
    found: set[str] = set()
    for seed in range(40):
        records = history(random.Random(seed), 5, begin_ms)
        assert [one.position for one in records] == list(range(1, len(records) + 1))
        stamps = [one.recorded_at_us for one in records]
        assert stamps == sorted(stamps)
        ledger = folded(records)
        months = {period for _, period in by_month(ledger, stamps[-1] // 1000)}
        found |= {one.type for one in records}
        found |= {"several months"} if len(months) > 1 else set()
        found |= {"running"} if any(one.running for one in ledger.attempts.values()) else set()
        found |= (
            {"corrected"} if any(one.outcome and one.outcome.corrected for one in ledger.attempts.values()) else set()
        )
        attempts_of = [one.job_id for one in ledger.attempts.values()]
        found |= {"retried"} if len(set(attempts_of)) < len(attempts_of) else set()
    assert found >= {"several months", "running", "corrected", "retried", "JobReachable", "MinutesAdjusted", "QuotaSet"}
