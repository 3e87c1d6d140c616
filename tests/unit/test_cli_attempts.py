"""What people see of repeats and stalls."""

import pytest

from protos.events.v1 import job_pb2 as ev
from protos.events.v1.job_pb2 import ChargedInterval
from protos.metrics.v1.metrics_pb2 import Series
from protos.scheduler.v1 import job_pb2 as pb
from protos.training.v1.training_pb2 import END_REASON_INFRASTRUCTURE, Limits, ResumeFrom, TrainingSpec
from services.cli import live_view
from services.cli.errors import CliError
from services.cli.live_state import LiveState
from services.cli.states import job_state
from services.cli.train_options import stall_minutes
from services.words import format as fmt
from services.words.events import sentence
from tests.unit.test_cli_words import recorded

START_MS = 1_794_744_000_000
MINUTE_MS = 60_000
EARLIER = pb.EarlierAttempt(
    attempt_id="at_1",
    runner_name="box",
    rate_micros=2_000_000,
    interval=ChargedInterval(started_at_ms=START_MS, charged_until_ms=START_MS + 3 * MINUTE_MS),
    reason=END_REASON_INFRASTRUCTURE,
    message="the keeper died",
    steps=40,
)


def job(**more: object) -> pb.Job:
    """The second of three attempts, from step 20 on; it began ten minutes after the first."""
    known = {
        "job_id": "jb_a",
        "name": "digits",
        "state": pb.JOB_STATE_RUNNING,
        "rate_micros": 1_000_000,
        "version": 9,
        "attempt": 2,
        "earlier_attempts": [EARLIER],
        "interval": ChargedInterval(started_at_ms=START_MS + 10 * MINUTE_MS),
        "spec": TrainingSpec(limits=Limits(retries=2, epochs=9), resume_from=ResumeFrom(attempt_id="at_1", step=20)),
    }
    return pb.Job(**{**known, **more})  # type: ignore[arg-type]


def series(name: str, *steps: int) -> Series:
    return Series(name=name, steps=steps, values=[float(step) for step in steps])


def test_the_state_names_the_attempt_and_how_long_there_was_no_step() -> None:
    assert job_state(job(), START_MS).plain == "● RUNNING · attempt 2 of 3"
    stalled = job(stalled_since_ms=START_MS)
    assert job_state(stalled, START_MS + 34 * MINUTE_MS).plain == "● RUNNING · attempt 2 of 3 · ⚠ no step for 34 min"
    hours = job_state(job(attempt=1, stalled_since_ms=START_MS), START_MS + 125 * MINUTE_MS).plain
    assert hours == "● RUNNING · ⚠ no step for 2 h 5 min"
    assert job_state(job(attempt=1, spec=TrainingSpec()), START_MS).plain == "● RUNNING"


def test_a_job_that_waits_to_be_tried_again_says_so_and_why() -> None:
    waiting = job(state=pb.JOB_STATE_QUEUED, attempt=1, queue_position=1, waiting_for="runner box", interval=None)
    assert job_state(waiting, START_MS).plain == "◌ QUEUED · waits for attempt 2 of 3"
    line = live_view.plain(LiveState(waiting))
    assert "waiting for runner box" in line
    assert "attempt 1 ended: infrastructure: the keeper died" in line


def test_time_and_minutes_are_those_of_all_attempts() -> None:
    state = LiveState(job())
    now_ms = START_MS + 12 * MINUTE_MS
    assert state.elapsed_ms(now_ms) == 5 * MINUTE_MS, "it does not count while it waits"
    assert state.charged_milliminutes(now_ms) == 3 * 2000 + 2 * 1000
    waiting = LiveState(job(interval=ChargedInterval()))
    assert waiting.charged_milliminutes(now_ms) == 6000


def test_steps_that_are_made_again_replace_those_of_the_attempt_before() -> None:
    state = LiveState(job(attempt=1, earlier_attempts=[], version=5))
    state.take_series([series("train/loss", *range(1, 36)), series("gpu0/utilization_percent", 0, 5000)], fresh=True)
    state.take_job(job())
    assert state.curves["train/loss"].steps[-1] == state.step == 20
    assert state.curves["gpu0/utilization_percent"].steps == [0, 5000]
    state.take_series([series("train/loss", 21, 22)], fresh=False)
    assert state.curves["train/loss"].steps == list(range(1, 23))


def test_a_stall_is_one_line_in_a_pipe_until_it_is_over() -> None:
    stalled = LiveState(job(stalled_since_ms=START_MS))
    assert f"⚠ no step since {fmt.clock_time(START_MS)}" in live_view.plain(stalled)
    assert "⚠" not in live_view.plain(LiveState(job()))


def test_events_of_repeats_say_what_comes_next() -> None:
    failed = ev.JobFailed(reason=END_REASON_INFRASTRUCTURE, message="the keeper died", will_retry=True)
    assert sentence(recorded(failed)).endswith("; the job waits for its runner and is tried again")
    assigned = ev.JobAssigned(runner_name="box", attempt=2, resume_from=ResumeFrom(attempt_id="at_1", step=20))
    assert sentence(recorded(assigned)).endswith(", attempt 2, from step 20")
    anew = ev.JobAssigned(runner_name="box", attempt=2, resume_from=ResumeFrom(trained_ms=5))
    assert sentence(recorded(anew)).endswith(", attempt 2, from the start")


def test_stall_minutes_are_minutes_or_never() -> None:
    assert (stall_minutes("45"), stall_minutes("never")) == (45, -1)
    for wrong in ("0", "-1", "x", "10001", "1.5", ""):
        with pytest.raises(CliError, match="whole minutes from 1 to 10000, or never"):
            stall_minutes(wrong)
