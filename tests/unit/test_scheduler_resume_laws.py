"""The rules of jobs that begin with another job's checkpoint: what they go on from, and which runner may take them."""

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given as for_all
from hypothesis import strategies as st

from protos.events.v1 import artifact_pb2, runner_pb2
from protos.events.v1 import job_pb2 as ev
from protos.scheduler.v1.job_pb2 import JobState, ResumeJobRequest
from protos.training.v1.training_pb2 import (
    Checkpoint,
    CheckpointReference,
    EndReason,
    InitialWeights,
    Limits,
    WeightsSource,
)
from services.rpc.errors import InvalidField
from services.scheduler.domain import checkpoints, placement
from services.scheduler.domain.artifact import Artifact
from services.scheduler.domain.artifact import evolve as evolve_artifact
from services.scheduler.domain.job import Job, evolve
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.placement import Rates
from services.scheduler.domain.refusals import CheckpointElsewhere, CheckpointGone, HolderNotOnline
from services.scheduler.domain.runner import Runner
from services.scheduler.domain.runner import evolve as evolve_runner
from services.scheduler.serde import dump, load
from services.scheduler.submission import resumed
from tests.support import given
from tests.support.given import T0, WINDOW_MS

RATES = Rates({}, 1_000_000)
MINUTE = 60_000


def saved(step: int, **more: Any) -> ev.CheckpointSaved:
    checkpoint = Checkpoint(name=f"step-{step}", step=step, sha256=f"{step:064x}", **more)
    return ev.CheckpointSaved(attempt_id="at_1", checkpoint=checkpoint)


def folded(*events: tuple[Message, int]) -> Job:
    """A job from its events and the moments at which they were recorded, ms after T0."""
    state = None
    for version, (event, after_ms) in enumerate(events, 1):
        at = Envelope("jb_1", "ws_1", version, T0 + after_ms, "", version)
        state = evolve(state, event, at)
    assert state is not None
    return state


def earlier(limits: Limits | None = None, *more: tuple[Message, int]) -> Job:
    """It has trained for ten minutes, saved steps 10 and 20 at minutes 3 and 6, and was stopped."""
    submitted = ev.JobSubmitted(name="first", spec=given.spec(), labels={"room": "2"})
    submitted.spec.limits.CopyFrom(limits or Limits(epochs=5))
    interval = ev.ChargedInterval(started_at_ms=T0, charged_until_ms=T0 + 10 * MINUTE, ended_at_ms=T0 + 10 * MINUTE)
    killed = ev.JobKilled(
        attempt_id="at_1", interval=interval, reason=EndReason.END_REASON_STOPPED_BY_PERSON, steps=30, epochs=3
    )
    return folded(
        (submitted, 0),
        (given.assigned(), 0),
        (given.started(), 0),
        (saved(10, epoch=1, best=True), 3 * MINUTE),
        (saved(20, epoch=2), 6 * MINUTE),
        *more,
        (killed, 10 * MINUTE),
    )


def reference(job: Job, name: str = "step-20", artifact_id: str = "") -> CheckpointReference:
    known = checkpoints.located(job, [])
    found = checkpoints.reference(job.job_id, next(one for one in known if one.name == name))
    found.artifact_id = artifact_id
    return found


def resuming(first: Job, found: CheckpointReference, **more: Any) -> ev.JobSubmitted:
    return resumed(ResumeJobRequest(job_id=first.job_id, **more), first, found, None, T0)


def second(event: ev.JobSubmitted, *more: Message) -> Job:
    state = evolve(None, event, Envelope("jb_2", "ws_1", 1, T0, "", 50))
    for version, one in enumerate(more, 2):
        state = evolve(state, one, Envelope("jb_2", "ws_1", version, T0, "", 50 + version))
    return state


def box(number: int, *more: Message) -> Runner:
    state = None
    events = (runner_pb2.RunnerRegistered(name=f"box-{number}"), given.connected(), given.online(), *more)
    for version, event in enumerate(events, 1):
        state = evolve_runner(state, event, Envelope(f"rn_{number}", "ws_1", version, T0, "", version))
    assert state is not None
    return state


def test_a_resumed_job_has_the_earlier_ones_settings_and_goes_on_from_its_checkpoint() -> None:
    first = earlier()
    event = resuming(first, reference(first))
    assert (event.name, dict(event.labels)) == ("first", {"room": "2"})
    assert (event.spec.architecture, event.spec.limits) == (first.spec.architecture, first.spec.limits)
    begins = event.spec.resume_from
    assert (begins.job_id, begins.attempt_id, begins.runner_id) == ("jb_1", "at_1", "rn_1")
    assert (begins.checkpoint, begins.step, begins.sha256) == ("step-20", 20, f"{20:064x}")
    assert begins.trained_ms == 6 * MINUTE, "what was trained behind the checkpoint is trained again"
    job = second(event)
    assert job.origin == begins
    assert placement.assign(job, box(1), "at_2", RATES, WINDOW_MS).job_events[0].HasField("resume_from") is False


def test_an_older_checkpoint_has_less_behind_it() -> None:
    first = earlier()
    assert resuming(first, reference(first, "step-10")).spec.resume_from.trained_ms == 3 * MINUTE


def test_a_checkpoint_that_was_told_late_has_at_most_the_whole_training_behind_it() -> None:
    first = earlier(None, (saved(25), 60 * MINUTE))
    assert resuming(first, reference(first, "step-25")).spec.resume_from.trained_ms == 10 * MINUTE


def test_a_row_of_an_earlier_version_counts_the_whole_training() -> None:
    first = earlier()
    old = Job(**{name: getattr(first, name) for name in Job.__slots__ if name != "trained_at_ms"})
    assert resuming(old, reference(old)).spec.resume_from.trained_ms == 10 * MINUTE


def test_a_row_is_read_as_it_was_written_and_one_of_an_earlier_version_too() -> None:
    first = earlier()
    for job in (first, second(resuming(first, reference(first)), given.assigned("at_2"))):
        assert load(dump(job), Job) == job
    new = ("origin", "trained_at_ms", "weights", "weights_source", "batch_size")
    old = {name: value for name, value in json.loads(dump(first)).items() if name not in new}
    known = load(json.dumps(old), Job)
    assert (known.origin, known.trained_at_ms, known.checkpoints) == (None, {}, first.checkpoints)


def test_a_repeat_of_a_resumed_job_goes_on_from_the_earlier_job_until_it_has_a_checkpoint_of_its_own() -> None:
    first = earlier()
    job = second(resuming(first, reference(first)), given.assigned("at_2"))
    failed = ev.JobFailed(
        attempt_id="at_2",
        interval=ev.ChargedInterval(started_at_ms=T0, charged_until_ms=T0 + MINUTE),
        reason=EndReason.END_REASON_INFRASTRUCTURE,
        will_retry=True,
    )
    job = evolve(job, failed, Envelope("jb_2", "ws_1", 3, T0, "", 60))
    again = placement.assign(job, box(1), "at_3", RATES, WINDOW_MS).job_events[0].resume_from  # type: ignore[attr-defined]
    assert (again.job_id, again.attempt_id, again.checkpoint) == ("jb_1", "at_1", "step-20")
    assert again.trained_ms == 7 * MINUTE, "all that was trained counts towards the limit of minutes"

    job = evolve(job, given.assigned("at_3"), Envelope("jb_2", "ws_1", 4, T0, "", 61))
    own = saved(40)
    own.attempt_id = "at_3"
    job = evolve(job, own, Envelope("jb_2", "ws_1", 5, T0, "", 62))
    failed.attempt_id = "at_3"
    job = evolve(job, failed, Envelope("jb_2", "ws_1", 6, T0, "", 63))
    again = placement.assign(job, box(1), "at_4", RATES, WINDOW_MS).job_events[0].resume_from  # type: ignore[attr-defined]
    assert (again.job_id, again.attempt_id, again.checkpoint) == ("", "at_3", "step-40")
    assert again.trained_ms == 8 * MINUTE
    assert job.origin is not None
    assert job.origin.checkpoint == "step-20", "where it came from is not forgotten"


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(steps=20), "limits.steps is '20', but 20 are done already at checkpoint step-20"),
        (Limits(minutes=6), "limits.minutes is '6', but 6 are done already"),
        (Limits(epochs=1), "limits.epochs is '1', but 1 are done already"),
    ],
)
def test_a_limit_that_is_reached_already_is_refused(limits: Limits, sentence: str) -> None:
    first = earlier()
    with pytest.raises(InvalidField) as refused:
        resuming(first, reference(first), limits=limits)
    assert sentence in str(refused.value)


def test_new_limits_replace_the_earlier_ones_whole() -> None:
    first = earlier(Limits(epochs=5, retries=2))
    limits = resuming(first, reference(first), limits=Limits(steps=100)).spec.limits
    assert (limits.steps, limits.epochs, limits.retries, limits.stall_minutes) == (100, 0, 0, 30)


def test_the_epochs_of_the_last_step_are_known_exactly() -> None:
    first = earlier(Limits(epochs=3), (saved(30, epoch=3), 9 * MINUTE))
    with pytest.raises(InvalidField, match="3 are done already at checkpoint step-30"):
        resuming(first, reference(first, "step-30"))
    resuming(first, reference(first))


def test_where_only_a_box_has_the_checkpoint_no_other_runner_is_offered() -> None:
    found = reference(earlier())
    assert placement.runner_for(found, None, box(1), {}) == box(1)
    assert placement.runner_for(found, box(1), box(1), {}) == box(1)
    with pytest.raises(CheckpointElsewhere, match="step-20 of job jb_1 lies only on runner box-1; choose that runner"):
        placement.runner_for(found, box(2), box(1), {})
    with pytest.raises(CheckpointElsewhere):
        placement.runner_for(found, None, box(1), {"room": "3"})
    with pytest.raises(CheckpointGone, match="lay only on runner box-1, which was uninstalled"):
        placement.runner_for(found, None, box(1, runner_pb2.RunnerUninstalled()), {})
    found.artifact_id = "af_1"
    assert placement.runner_for(found, box(2), None, {}) == box(2)
    assert placement.runner_for(found, None, box(1), {}) is None


def test_a_box_that_is_away_and_alone_has_the_checkpoint_is_waited_for_and_the_reason_told() -> None:
    first = earlier()
    offline = box(1, given.disconnected(), runner_pb2.RunnerStatusChanged(status=runner_pb2.RUNNER_STATUS_OFFLINE))
    event = resumed(ResumeJobRequest(), first, reference(first), offline, T0)
    with pytest.raises(HolderNotOnline, match="lies only on runner box-1, which is OFFLINE; add --queue to wait"):
        placement.submit(event, offline, [], second(event), "at_2", RATES, WINDOW_MS)
    event.queued = True
    assert placement.submit(event, offline, [], second(event), "at_2", RATES, WINDOW_MS).runner is None
    job = second(event)
    assert job.state == JobState.JOB_STATE_QUEUED
    why = placement.waits_for(job, [offline, box(2)])
    assert why == "runner box-1 to come online: step-20 of job jb_1 lies only there"


def test_a_file_that_the_platform_lost_meanwhile_binds_the_job_to_its_box_again() -> None:
    first = earlier()
    event = resumed(ResumeJobRequest(), first, reference(first, artifact_id="af_1"), box(2), T0)
    job = second(event)
    assert placement.matches(box(2), job)
    assert not placement.matches(box(2), job, lacks=True)
    why = placement.waits_for(job, [box(1), box(2)], lacks=True)
    assert why == "runner box-2, which cannot read step-20: that lies only on runner box-1 by now"


@for_all(
    number=st.sampled_from([1, 2]),
    stored=st.booleans(),
    lacks=st.booleans(),
    by_weights=st.booleans(),
    attempted=st.booleans(),
    own=st.booleans(),
)
def test_whatever_happened_only_a_box_that_can_read_the_checkpoint_takes_the_job(
    number: int, stored: bool, lacks: bool, by_weights: bool, attempted: bool, own: bool
) -> None:
    first = earlier()
    found = reference(first, artifact_id="af_1" if stored else "")
    event = resuming(first, found)
    event.labels.clear()
    if by_weights:
        event.spec.ClearField("resume_from")
        source = WeightsSource.WEIGHTS_SOURCE_CHECKPOINT
        event.spec.weights.CopyFrom(InitialWeights(source=source, checkpoint=found))
    happened: list[Message] = []
    holder = "rn_1"
    if attempted:
        assigned = given.assigned("at_2")
        # Its first attempt was where the rule allowed it.
        assigned.runner_id = holder = "rn_2" if stored else "rn_1"
        happened.append(assigned)
        if own:
            happened.append(ev.CheckpointSaved(attempt_id="at_2", checkpoint=Checkpoint(name="own", step=30)))
        happened.append(
            ev.JobFailed(attempt_id="at_2", interval=ev.ChargedInterval(), will_retry=True, queue_expires_at_ms=T0)
        )
    job = second(event, *happened)
    taken = placement.matches(box(number), job, lacks)
    readable = number == 1 or (stored and not lacks) or (attempted and own)
    allowed = not attempted or holder == f"rn_{number}"
    assert taken == (readable and allowed)


def test_the_best_checkpoint_or_else_the_newest_gives_the_weights() -> None:
    known = checkpoints.located(earlier(), [])
    assert checkpoints.best_or_newest(known).name == "step-10"
    for one in known:
        one.best = False
    assert checkpoints.best_or_newest(known).name == "step-20"


def artifact(**more: Any) -> Artifact:
    stored = artifact_pb2.ArtifactStored(
        **{"job_id": "jb_1", "attempt_id": "at_1", "kind": "checkpoint", "name": "step-20", **more}
    )
    return evolve_artifact(None, stored, Envelope("af_1", "ws_1", 1, T0, "", 70))


def test_a_checkpoint_has_the_file_of_its_own_name_attempt_and_digest() -> None:
    first = earlier()
    right = artifact(sha256=f"{20:064x}")
    assert [one.artifact_id for one in checkpoints.located(first, [right])] == ["", "af_1"]
    for other in ({"sha256": "0" * 64}, {"attempt_id": "at_9"}, {"kind": "onnx"}, {"name": "step-21"}):
        wrong = artifact(**{"sha256": f"{20:064x}", **other})
        assert not any(one.artifact_id for one in checkpoints.located(first, [wrong])), other


def test_a_file_is_there_from_its_storing_to_its_removal() -> None:
    stored = artifact()
    removed = evolve_artifact(stored, artifact_pb2.ArtifactRemoved(job_id="jb_1"), Envelope("af_1", "", 2, 0, "", 80))
    assert (stored.there, removed.there) == (True, False)
    assert [removed.there_at(position) for position in (69, 70, 79, 80)] == [False, True, True, False]
    never = evolve_artifact(None, artifact_pb2.ArtifactRemoved(), Envelope("af_2", "", 1, 0, "", 80))
    assert not never.there


def test_what_the_training_says_at_its_start_is_shown_and_a_repeat_says_no_warning_twice() -> None:
    started = ev.JobStarted(
        attempt_id="at_1",
        started_at_ms=T0,
        weights="random",
        weights_source=WeightsSource.WEIGHTS_SOURCE_RANDOM,
        warnings=["no pretrained weights"],
        batch_size=48,
    )
    job = given.job(given.assigned(), started, started)
    assert (job.weights, job.weights_source, job.batch_size) == ("random", 2, 48)
    assert job.warnings == ("no pretrained weights",)
