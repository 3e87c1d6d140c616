"""The rules of repeats: given what happened to a job, then it is tried again, or it is over."""

from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from protos.common.v1.inventory_pb2 import Inventory
from protos.events.v1 import job_pb2 as ev
from protos.events.v1.runner_pb2 import RunnerUninstalled
from protos.scheduler.v1.job_pb2 import JobState
from protos.scheduler.v1.session_pb2 import Checkpointed, Ended, Evaluated, Outcome, Progressed, Report, Stalled
from protos.training.v1.training_pb2 import Checkpoint, EndReason, Limits
from services.scheduler.domain import attempt, placement
from services.scheduler.domain.job import HELD, OVER, Job, evolve
from services.scheduler.domain.kinds import Envelope, Reason
from services.scheduler.domain.placement import Rates
from services.scheduler.domain.refusals import StaleReport
from services.scheduler.domain.runner import Runner
from services.scheduler.domain.runner import evolve as evolve_runner
from tests.support import given
from tests.support.given import T0, WINDOW_MS, moment, types

RATES = Rates({}, 1_000_000)
INFRASTRUCTURE, REBOOTED = EndReason.END_REASON_INFRASTRUCTURE, EndReason.END_REASON_HOST_REBOOTED
REASONS = [reason for reason in EndReason.values() if reason]


def submitted(retries: int) -> ev.JobSubmitted:
    event = ev.JobSubmitted(name="job", spec=given.spec())
    event.spec.limits.CopyFrom(Limits(retries=retries))
    return event


class World:
    """One job and one runner, changed only by events that the domain decided."""

    def __init__(self, retries: int) -> None:
        self.now_ms = T0
        self.job_events: list[Message] = []
        self.job: Job | None = None
        self.runner: Runner = given.runner(given.connected(), given.online())
        self._report = 0
        self._take([submitted(retries)], [])

    @property
    def the_job(self) -> Job:
        assert self.job is not None
        return self.job

    def _take(self, job_events: Any, runner_events: Any) -> None:
        for event in job_events:
            version = self.the_job.version + 1 if self.job is not None else 1
            self.job = evolve(self.job, event, Envelope("jb_1", "ws_1", version, self.now_ms, "", version, "c-1"))
            self.job_events.append(event)
        for event in runner_events:
            version = self.runner.version + 1
            self.runner = evolve_runner(self.runner, event, Envelope("rn_1", "ws_1", version, self.now_ms, "", 0))

    def place(self) -> bool:
        if self.the_job.state != JobState.JOB_STATE_QUEUED or not placement.matches(self.runner, self.the_job):
            return False
        attempt_id = f"at_{self.the_job.attempt + 1}"
        placed = placement.assign(self.the_job, self.runner, attempt_id, RATES, WINDOW_MS)
        self._report = 0
        self._take(placed.job_events, placed.runner_events)
        return True

    def tell(self, **fact: Any) -> list[Message]:
        self._report += 1
        report = Report(attempt_id=self.the_job.attempt_id, job_id="jb_1", sequence=self._report, **fact)
        job_events, runner_events = attempt.report(self.the_job, self.runner, report, self.now_ms)
        self._take(job_events, runner_events)
        return list(job_events)

    def save(self, step: int) -> None:
        saved = Checkpoint(name=f"step-{step}", step=step, sha256=f"{step:064x}", metrics={"accuracy": step / 100})
        self.tell(checkpointed=Checkpointed(checkpoint=saved))

    def end(self, outcome: str, reason: Reason = EndReason.END_REASON_UNSPECIFIED, ran_ms: int = 1000) -> list[Message]:
        begun_ms = self.now_ms
        self.now_ms += ran_ms
        ended = Ended(
            outcome=Outcome.Value(f"OUTCOME_{outcome}"),
            reason=reason,
            message="why",
            started_at=moment(begun_ms),
            ended_at=moment(self.now_ms),
            steps=35,
        )
        return self.tell(ended=ended)


def world(retries: int = 2) -> World:
    made = World(retries)
    assert made.place()
    return made


def test_a_job_that_the_box_lets_down_waits_for_the_same_runner_and_goes_on_from_the_last_checkpoint() -> None:
    one = world()
    one.save(10)
    one.save(20)
    (failed,) = one.end("FAILED", INFRASTRUCTURE, ran_ms=5000)
    assert failed.will_retry  # type: ignore[attr-defined]
    job = one.the_job
    assert (job.state, job.wanted_runner_id, job.over) == (JobState.JOB_STATE_QUEUED, "rn_1", False)
    assert one.runner.placeable, "its runner was freed in the same append"
    assert placement.waits_for(job, [one.runner]) == "runner box to come online, for attempt 2 of 3"
    other = given.runner(given.connected(), given.online())
    assert not placement.matches(Runner(**{**_fields(other), "runner_id": "rn_2"}), job)
    assert one.place()
    assigned = one.job_events[-1]
    assert isinstance(assigned, ev.JobAssigned)
    assert (assigned.attempt, assigned.attempt_id) == (2, "at_2")
    resume_from = assigned.resume_from
    assert (resume_from.attempt_id, resume_from.checkpoint, resume_from.step) == ("at_1", "step-20", 20)
    assert (resume_from.sha256, resume_from.trained_ms) == (f"{20:064x}", 5000)
    assert one.the_job.spec.resume_from == resume_from, "the box is told with its settings"
    assert one.the_job.correlation_id == "c-1"


def test_the_newest_checkpoint_counts_whichever_attempt_saved_it() -> None:
    one = world()
    one.save(10)
    one.end("FAILED", INFRASTRUCTURE, ran_ms=1000)
    one.place()
    one.end("KILLED", REBOOTED, ran_ms=300)
    one.place()
    assert one.the_job.spec.resume_from.attempt_id == "at_1"
    assert one.the_job.spec.resume_from.trained_ms == 1300
    one.save(40)
    assert one.the_job.saved_by == "at_3"


def test_without_a_checkpoint_it_starts_anew_and_its_minutes_count_all_the_same() -> None:
    one = world()
    one.tell(evaluated=Evaluated(step=12, metrics={"accuracy": 0.1}))
    one.end("FAILED", INFRASTRUCTURE, ran_ms=7000)
    one.place()
    resume_from = one.the_job.spec.resume_from
    assert (resume_from.attempt_id, resume_from.trained_ms) == ("", 7000)
    assert (one.the_job.evaluated_step, one.the_job.metrics) == (0, {}), "it will be evaluated again"


def test_what_was_evaluated_behind_the_checkpoint_is_forgotten_with_it() -> None:
    one = world()
    one.save(20)
    one.tell(evaluated=Evaluated(step=30, metrics={"accuracy": 0.9}))
    one.end("FAILED", INFRASTRUCTURE)
    one.place()
    assert (one.the_job.evaluated_step, one.the_job.metrics) == (20, {"accuracy": 0.2})


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("outcome", ["FAILED", "KILLED"])
def test_only_the_boxs_own_reasons_are_tried_again(outcome: str, reason: Reason) -> None:
    one = world()
    one.end(outcome, reason)
    assert one.the_job.over == (reason not in (INFRASTRUCTURE, REBOOTED))


def test_when_no_repeats_are_left_it_has_failed() -> None:
    one = world(retries=1)
    one.end("FAILED", INFRASTRUCTURE)
    one.place()
    (failed,) = one.end("FAILED", INFRASTRUCTURE)
    assert not failed.will_retry  # type: ignore[attr-defined]
    assert one.the_job.state == JobState.JOB_STATE_FAILED
    assert [earlier.message for earlier in one.the_job.earlier] == ["why"]
    assert world(retries=0).end("FAILED", INFRASTRUCTURE)[0].will_retry is False  # type: ignore[attr-defined]


def test_a_job_that_somebody_wants_to_end_is_not_tried_again() -> None:
    one = world()
    one._take(attempt.stop(one.the_job, EndReason.END_REASON_STOPPED_BY_PERSON, "enough"), [])
    one.end("FAILED", INFRASTRUCTURE)
    assert one.the_job.state == JobState.JOB_STATE_FAILED


def test_an_end_that_was_presumed_is_final_even_where_the_box_tells_another_reason_later() -> None:
    one = world()
    one._take([given.unreachable(T0)], [given.disconnected(T0)])
    one.now_ms = T0 + attempt.lost_after_ms(WINDOW_MS)
    killed, released = attempt.lost(one.the_job, one.runner, one.now_ms)
    one._take(killed, released)
    assert one.the_job.state == JobState.JOB_STATE_KILLED
    (corrected,) = one.end("FAILED", INFRASTRUCTURE)
    assert isinstance(corrected, ev.JobOutcomeCorrected)
    assert not corrected.failed.will_retry
    assert one.the_job.state == JobState.JOB_STATE_FAILED


def test_what_a_box_repeats_of_an_earlier_attempt_is_settled_and_changes_nothing() -> None:
    one = world()
    one.end("FAILED", INFRASTRUCTURE)
    again = Report(attempt_id="at_1", job_id="jb_1", sequence=1, ended=Ended(outcome=Outcome.OUTCOME_FAILED))
    assert attempt.report(one.the_job, one.runner, again, one.now_ms) == ([], [])
    one.place()
    assert attempt.report(one.the_job, one.runner, again, one.now_ms) == ([], [])
    unknown = Report(attempt_id="at_9", job_id="jb_1", sequence=1, ended=Ended())
    with pytest.raises(StaleReport):
        attempt.report(one.the_job, one.runner, unknown, one.now_ms)


def test_while_it_waits_to_be_tried_again_it_can_be_stopped_expires_and_ends_with_its_runner() -> None:
    one = world()
    one.end("FAILED", INFRASTRUCTURE, ran_ms=2000)
    job, now_ms = one.the_job, one.now_ms
    stopped = attempt.stop(job, EndReason.END_REASON_STOPPED_BY_PERSON, "enough")
    assert types(stopped) == ["JobKillRequested", "JobKilled"]
    assert attempt.expire(job, one.runner, now_ms + attempt.RETRY_LIFETIME_MS - 1) == []
    (expired,) = attempt.expire(job, one.runner, now_ms + attempt.RETRY_LIFETIME_MS)
    assert isinstance(expired, ev.JobKilled)
    assert expired.reason == EndReason.END_REASON_QUEUE_EXPIRED
    assert "(attempt 1 had ended: why)" in expired.message
    gone = evolve_runner(one.runner, RunnerUninstalled(), Envelope("rn_1", "ws_1", 99, now_ms, "", 0))
    (ended,) = attempt.expire(job, gone, now_ms)
    assert isinstance(ended, ev.JobKilled)
    assert ended.reason == EndReason.END_REASON_RUNNER_UNINSTALLED
    one._take([ended], [])
    assert (one.the_job.state, one.the_job.steps, one.the_job.trained_ms) == (JobState.JOB_STATE_KILLED, 35, 2000)


def test_a_stall_is_shown_until_steps_come_again() -> None:
    one = world()
    one.now_ms += 40 * 60_000
    (stalled,) = one.tell(stalled=Stalled(since=moment(T0 + 60_000), step=7))
    assert (types([stalled]), one.the_job.stalled_since_ms) == (["JobStalled"], T0 + 60_000)
    assert types(one.tell(progressed=Progressed(at=moment(one.now_ms), step=8))) == ["JobProgressed"]
    assert one.the_job.stalled_since_ms == 0
    one.tell(stalled=Stalled(since=moment(T0), step=9))
    one.end("FAILED", INFRASTRUCTURE)
    assert one.the_job.stalled_since_ms == 0, "what waits does not stall"


ENDS = st.sampled_from(["FINISHED", "FAILED", "KILLED"])
DOINGS = st.one_of(
    st.tuples(st.just("end"), ENDS, st.sampled_from([INFRASTRUCTURE, REBOOTED, *REASONS]), st.integers(0, 10_000)),
    st.tuples(st.just("place")),
    st.tuples(st.just("save"), st.integers(1, 100)),
    st.tuples(st.just("stop")),
    st.tuples(st.just("repeat")),
)


@settings(deadline=None)
@for_all(st.integers(0, 3), st.lists(DOINGS, max_size=30))
def test_whatever_happens_a_job_has_at_most_its_attempts_and_one_final_outcome(
    retries: int, doings: list[tuple[Any, ...]]
) -> None:
    one = world(retries)
    ran_ms: dict[str, int] = {}
    for doing in doings:
        job = one.the_job
        match doing:
            case ("end", outcome, reason, long_ms) if job.state in HELD:
                one.end(outcome, reason, long_ms)
                ran_ms[job.attempt_id] = long_ms
            case ("place",):
                one.place()
            case ("save", step) if job.state in HELD:
                one.save(step)
            case ("stop",) if not job.over:
                one._take(attempt.stop(job, EndReason.END_REASON_STOPPED_BY_PERSON, ""), [])
            case ("repeat",) if ran_ms:
                told = Report(attempt_id=next(iter(ran_ms)), job_id="jb_1", sequence=1, ended=Ended())
                assert attempt.report(job, one.runner, told, one.now_ms) == ([], [])
        assert one.the_job.attempt <= 1 + retries
        assert one.runner.attempt_id == (one.the_job.attempt_id if one.the_job.state in HELD else "")
    outcomes = [e for e in one.job_events if isinstance(e, ev.JobFinished | ev.JobFailed | ev.JobKilled)]
    final = [e for e in outcomes if isinstance(e, ev.JobFinished) or not e.will_retry]
    assert len(final) == (1 if one.the_job.state in OVER else 0)
    told_ms = {e.attempt_id: e.interval.charged_until_ms - e.interval.started_at_ms for e in outcomes if e.attempt_id}
    assert told_ms == ran_ms, "each attempt has an interval of its own"
    assigned = [e for e in one.job_events if isinstance(e, ev.JobAssigned)]
    assert [e.attempt for e in assigned] == list(range(1, len(assigned) + 1))


def _fields(runner: Runner) -> dict[str, Any]:
    assert isinstance(runner.inventory, Inventory)
    return {name: getattr(runner, name) for name in Runner.__slots__}
