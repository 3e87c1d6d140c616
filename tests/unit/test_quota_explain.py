"""An invoice can be checked by hand: its intervals leave nothing out, count nothing twice, and add up."""

from collections import defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.events.v1 import workspace_pb2 as workspace
from protos.quota.v1 import quota_pb2 as pb
from protos.training.v1.training_pb2 import EndReason
from services.quota.domain.attempt import charge, charge_by_period, interval
from services.quota.domain.explain import explain, lives
from services.quota.domain.lapses import lapses
from services.quota.domain.minutes import bounds, to_milliminutes
from tests.support.histories import DAY_MS, MINUTE_MS, WINDOW_MS, histories, record

NOON_MS = 1_794_744_000_000  # 2026-11-15 12:00 UTC
MONTH_END_MS = 1_796_083_200_000  # 2026-12-01
Kind = pb.ExplainedInterval

FREE = {Kind.KIND_GRACE}
CUT = {Kind.KIND_CUT_OFF, Kind.KIND_PRESUMED}


def by_job(records: list[EventRecord]) -> dict[str, list[EventRecord]]:
    jobs: dict[str, list[EventRecord]] = defaultdict(list)
    for one in records:
        if one.stream_kind == "job":
            jobs[one.stream_id].append(one)
    return jobs


@settings(max_examples=80)
@given(histories(), st.sampled_from([0, 1, 7 * MINUTE_MS, 40 * DAY_MS]))
def test_the_intervals_of_every_attempt_follow_one_another_and_add_up_to_its_charge(
    records: list[EventRecord], after_ms: int
) -> None:
    now_ms = records[-1].recorded_at_us // 1000 + after_ms
    for job_id, events in by_job(records).items():
        invoice = explain(job_id, events, [], now_ms)
        known = lives(events)
        assert [one.attempt_id for one in invoice.attempts] == list(known)
        for explained in invoice.attempts:
            attempt = known[explained.attempt_id].attempt
            found, charged = explained.intervals, interval(attempt, now_ms)
            if not charged.started_at_ms:
                assert not found
                continue
            assert all(one.to_ms == two.from_ms for one, two in pairwise(found))
            paid = [one for one in found if one.kind not in FREE]
            assert sum(one.charged_ms_micros for one in found) == charge(attempt, now_ms)
            if paid:
                assert (paid[0].from_ms, paid[-1].to_ms) == (charged.started_at_ms, charged.charged_until_ms)
            by_month: dict[str, int] = defaultdict(int)
            for one in found:
                start_ms, end_ms = bounds(one.period)
                assert start_ms <= one.from_ms <= one.to_ms <= end_ms
                assert one.charged_ms_micros == (one.to_ms - one.from_ms) * explained.rate_micros or one.kind in FREE
                by_month[one.period] += one.charged_ms_micros
            assert {period: amount for period, amount in by_month.items() if amount} == charge_by_period(
                attempt, now_ms
            )
        assert invoice.charged_ms_micros == sum(charge(life.attempt, now_ms) for life in known.values())
        assert invoice.milliminutes == to_milliminutes(invoice.charged_ms_micros)


@settings(max_examples=80)
@given(histories())
def test_every_reason_and_position_is_of_an_event_that_is_there(records: list[EventRecord]) -> None:
    now_ms = records[-1].recorded_at_us // 1000
    for job_id, events in by_job(records).items():
        positions = {one.position: one for one in events}
        for explained in explain(job_id, events, [], now_ms).attempts:
            assert positions[explained.assigned_position].type == "JobAssigned"
            for one in explained.intervals:
                assert one.began_because
                assert one.ended_because
                assert set(one.positions) <= positions.keys()
                assert explained.assigned_position in one.positions
                if one.kind == Kind.KIND_CUT_OFF and not one.began_because.endswith("(UTC)"):
                    assert any(positions[position].type == "JobUnreachable" for position in one.positions)
            assert all(not one.open for one in explained.intervals[:-1])
            corrections = [one for one in events if one.type == "JobOutcomeCorrected"]
            mine = [
                one
                for one in corrections
                if job.JobOutcomeCorrected.FromString(one.payload.value).attempt_id == explained.attempt_id
            ]
            assert [one.corrected_by_position for one in explained.corrected] == [one.position for one in mine]


@settings(max_examples=80)
@given(histories())
def test_what_is_told_cut_off_or_presumed_is_the_time_without_a_connection(records: list[EventRecord]) -> None:
    now_ms = records[-1].recorded_at_us // 1000
    for job_id, events in by_job(records).items():
        known = lives(events)
        for explained in explain(job_id, events, [], now_ms).attempts:
            life = known[explained.attempt_id]
            charged = interval(life.attempt, now_ms)
            silent = sum(
                lapse.to_ms - lapse.from_ms
                for lapse in lapses(life.links, charged.started_at_ms, charged.charged_until_ms)
            )
            told = sum(one.to_ms - one.from_ms for one in explained.intervals if one.kind in CUT)
            assert told == (silent if charged.started_at_ms else 0)


def invoice_of(*events: object, now_ms: int = NOON_MS + DAY_MS) -> pb.ExplainedAttempt:
    (attempt,) = explain("jb_1", [record(n, one) for n, one in enumerate(events, 1)], [], now_ms).attempts  # type: ignore[arg-type]
    return attempt


def assigned() -> job.JobAssigned:
    gpu = job.ChargedGpu(uuid="GPU-1", type="NVIDIA A10G", multiplier_micros=2_500_000)
    return job.JobAssigned(
        attempt_id="at_1",
        runner_id="rn_1",
        runner_name="box",
        gpus=[gpu],
        evaluation_factor_micros=1_500_000,
        rate_micros=3_750_000,
        window_ms=WINDOW_MS,
    )


def started(at_ms: int = NOON_MS) -> job.JobStarted:
    return job.JobStarted(attempt_id="at_1", started_at_ms=at_ms)


def silent(at_ms: int) -> job.JobUnreachable:
    return job.JobUnreachable(attempt_id="at_1", last_contact_at_ms=at_ms, deadline_at_ms=at_ms + WINDOW_MS)


def charged(from_ms: int, until_ms: int, end_ms: int = 0, presumed: bool = False) -> job.ChargedInterval:
    return job.ChargedInterval(
        started_at_ms=from_ms, charged_until_ms=until_ms, ended_at_ms=end_ms or until_ms, presumed=presumed
    )


def told(attempt: pb.ExplainedAttempt) -> list[tuple[str, float, str, str, list[int]]]:
    """Kind, minutes, why it began and ended, and by which events."""
    return [
        (
            Kind.Kind.Name(one.kind)[5:],
            (one.to_ms - one.from_ms) / MINUTE_MS,
            one.began_because,
            one.ended_because,
            list(one.positions),
        )
        for one in attempt.intervals
    ]


def test_an_invoice_names_the_lapse_the_stop_and_the_free_grace() -> None:
    stopped = job.JobKilled(
        attempt_id="at_1",
        interval=charged(NOON_MS, NOON_MS + 60 * MINUTE_MS, NOON_MS + 60 * MINUTE_MS + 30_000),
        reason=EndReason.END_REASON_STOPPED_BY_PERSON,
        message="enough",
    )
    attempt = invoice_of(
        assigned(),
        started(),
        silent(NOON_MS + 10 * MINUTE_MS),
        job.JobReachable(attempt_id="at_1", cut_off_ms=4 * MINUTE_MS),
        stopped,
    )
    assert told(attempt) == [
        ("CONNECTED", 10, "the training process started", "the runner was last heard of", [1, 2, 3]),
        ("CUT_OFF", 4, "the runner was last heard of", "the runner was heard of again", [1, 3, 4]),
        ("CONNECTED", 46, "the runner was heard of again", "its stop began (stopped by person: enough)", [1, 4, 5]),
        ("GRACE", 0.5, "its stop began; saving a checkpoint is free", "the training process had ended", [1, 5]),
    ]
    assert (attempt.reason, attempt.message) == (EndReason.END_REASON_STOPPED_BY_PERSON, "enough")
    assert [one.charged_ms_micros for one in attempt.intervals] == [
        int(minutes * MINUTE_MS * 3_750_000) for minutes in (10, 4, 46, 0)
    ]


def test_a_presumed_end_is_told_as_such_and_then_corrected() -> None:
    lost = job.JobKilled(
        attempt_id="at_1",
        interval=charged(NOON_MS, NOON_MS + 25 * MINUTE_MS, presumed=True),
        reason=EndReason.END_REASON_CONNECTION_LOST,
    )
    events = [assigned(), started(), silent(NOON_MS + 10 * MINUTE_MS), lost]
    presumed = invoice_of(*events)
    over = "its window was over: a training that is cut off ends itself then"
    assert told(presumed)[1:] == [("PRESUMED", 15, "the runner was last heard of", over, [1, 3, 4])]
    truth = job.JobOutcomeCorrected(
        attempt_id="at_1",
        corrects_position=4,
        interval=charged(NOON_MS, NOON_MS + 12 * MINUTE_MS),
        finished=job.JobFinished(),
    )
    corrected = invoice_of(*events, truth)
    assert told(corrected)[1:] == [("CUT_OFF", 2, "the runner was last heard of", "the training finished", [1, 3, 5])]
    (earlier,) = corrected.corrected
    assert (earlier.position, earlier.corrected_by_position) == (4, 5)
    assert earlier.charged_ms_micros == 25 * MINUTE_MS * 3_750_000
    assert earlier.interval == lost.interval


def test_a_presumed_end_without_a_word_of_the_last_contact_has_one_window_presumed() -> None:
    lost = job.JobKilled(attempt_id="at_1", interval=charged(NOON_MS, NOON_MS + 60 * MINUTE_MS, presumed=True))
    assert [(kind, minutes) for kind, minutes, *_ in told(invoice_of(assigned(), started(), lost))] == [
        ("CONNECTED", 45),
        ("PRESUMED", 15),
    ]


def test_an_interval_is_cut_where_the_month_ends() -> None:
    end = job.JobFinished(attempt_id="at_1", interval=charged(MONTH_END_MS - MINUTE_MS, MONTH_END_MS + 2 * MINUTE_MS))
    attempt = invoice_of(assigned(), started(MONTH_END_MS - MINUTE_MS), end)
    assert [(one.period, one.began_because, one.ended_because) for one in attempt.intervals] == [
        ("2026-11", "the training process started", "2026-11 ended (UTC)"),
        ("2026-12", "2026-12 began (UTC)", "the training finished"),
    ]


def test_what_runs_is_open_until_its_window_is_over() -> None:
    running = invoice_of(assigned(), started(), now_ms=NOON_MS)
    assert [(one.open, one.ended_because) for one in running.intervals] == [(True, "it goes on")]
    events = [assigned(), started(), silent(NOON_MS + MINUTE_MS)]
    assert invoice_of(*events, now_ms=NOON_MS + 3 * MINUTE_MS).intervals[-1].open
    over = invoice_of(*events, now_ms=NOON_MS + 20 * MINUTE_MS).intervals[-1]
    assert (over.open, over.to_ms) == (False, NOON_MS + MINUTE_MS + WINDOW_MS)
    assert over.ended_because.endswith("how it ended is not known yet")


def test_adjustments_that_name_the_job_are_on_its_invoice() -> None:
    refund = workspace.MinutesAdjusted(period="2026-11", milliminutes=-1500, reason="a stuck box", job_id="jb_1")
    event = record(9, refund, ("workspace", "ws_1"), at_ms=NOON_MS, actor="token:tok_1")
    end = job.JobFinished(attempt_id="at_1", interval=charged(NOON_MS, NOON_MS + 2 * MINUTE_MS))
    invoice = explain("jb_1", [record(1, assigned()), record(2, started()), record(3, end)], [event], NOON_MS)
    assert invoice.milliminutes == 7500 - 1500
    assert list(invoice.adjustments) == [
        pb.ExplainedAdjustment(
            position=9,
            period="2026-11",
            milliminutes=-1500,
            reason="a stuck box",
            actor="token:tok_1",
            recorded_at_ms=NOON_MS,
        )
    ]
