"""Minutes of a job in several attempts: each attempt is charged once, for what it ran itself."""

from collections.abc import Sequence

from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.training.v1.training_pb2 import EndReason
from services.quota.domain.attempt import charge, settled_by_period
from services.quota.domain.ledger import Ledger
from tests.support.quota import DAY_MS, NOON_MS, assigned, interval, record, settled_totals

MINUTE_MS = 60_000


def fold(events: Sequence[Message]) -> Ledger:
    return folded([record(position, "jb_1", event) for position, event in enumerate(events, 1)])


def folded(records: list[EventRecord]) -> Ledger:
    ledger = Ledger()
    for one in records:
        ledger.take(one)
    return ledger


def tried_again(attempt_id: str, start_ms: int, until_ms: int) -> job.JobFailed:
    return job.JobFailed(
        attempt_id=attempt_id,
        interval=interval(start_ms, until_ms),
        reason=EndReason.END_REASON_INFRASTRUCTURE,
        will_retry=True,
    )


def started(attempt_id: str, at_ms: int) -> job.JobStarted:
    return job.JobStarted(attempt_id=attempt_id, started_at_ms=at_ms)


def test_a_repeated_job_costs_the_sum_of_its_attempts_and_nothing_for_its_waiting() -> None:
    again_ms = NOON_MS + 20 * MINUTE_MS
    ledger = fold(
        [
            assigned("at_1", 2_000_000),
            started("at_1", NOON_MS),
            tried_again("at_1", NOON_MS, NOON_MS + 5 * MINUTE_MS),
            assigned("at_2", 3_000_000),
            started("at_2", again_ms),
            job.JobFinished(attempt_id="at_2", interval=interval(again_ms, again_ms + 7 * MINUTE_MS)),
        ]
    )
    charged = {key: charge(attempt, NOON_MS + DAY_MS) for key, attempt in ledger.attempts.items()}
    assert charged == {"at_1": 10 * MINUTE_MS * 1_000_000, "at_2": 21 * MINUTE_MS * 1_000_000}
    assert not any(attempt.running for attempt in ledger.attempts.values())


def test_a_job_that_waits_to_be_tried_again_accrues_nothing_and_ends_without_a_further_charge() -> None:
    waiting = [assigned("at_1"), started("at_1", NOON_MS), tried_again("at_1", NOON_MS, NOON_MS + MINUTE_MS)]
    ledger = fold(waiting)
    assert charge(ledger.attempts["at_1"], NOON_MS + DAY_MS) == MINUTE_MS * 1_000_000
    # It had no attempt when it ended.
    assert fold([*waiting, job.JobKilled(reason=EndReason.END_REASON_QUEUE_EXPIRED)]) == ledger


@st.composite
def repeated_jobs(draw: st.DrawFn) -> tuple[list[EventRecord], int]:
    """The log of one job in up to five attempts, and what it costs."""
    events: list[Message] = []
    at_ms, exact = NOON_MS, 0
    attempts = draw(st.integers(1, 5))
    for number in range(1, attempts + 1):
        attempt_id, rate_micros = f"at_{number}", draw(st.integers(1, 20_000_000))
        events.append(assigned(attempt_id, rate_micros))
        at_ms += draw(st.integers(0, DAY_MS))
        start_ms, until_ms = at_ms, at_ms + draw(st.integers(0, 40 * DAY_MS))
        if draw(st.booleans()):
            events.append(started(attempt_id, start_ms))
            exact += (until_ms - start_ms) * rate_micros
            at_ms = until_ms
        else:
            start_ms = until_ms = 0
        last = number == attempts
        ended = job.JobFinished(attempt_id=attempt_id, interval=interval(start_ms, until_ms))
        events.append(ended if last else tried_again(attempt_id, start_ms, until_ms))
    return [record(position, "jb_1", event) for position, event in enumerate(events, 1)], exact


@settings(deadline=None)
@given(repeated_jobs(), st.data())
def test_each_attempt_is_charged_once_however_its_events_arrive(
    made: tuple[list[EventRecord], int], data: st.DataObject
) -> None:
    records, exact = made
    repeated = data.draw(st.lists(st.sampled_from(records)))
    ledger = folded(data.draw(st.permutations([*records, *repeated])))
    assert sum(settled_totals(ledger.attempts.values()).values()) == exact
    by_attempt = [sum(settled_by_period(attempt).values()) for attempt in ledger.attempts.values()]
    assert sum(by_attempt) == exact
    assert {attempt.job_id for attempt in ledger.attempts.values()} == {"jb_1"}
