"""A job: what it is and how events change it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.message import Message

from protos.events.v1 import job_pb2 as ev
from protos.scheduler.v1.job_pb2 import EarlierAttempt, JobState
from protos.training.v1.training_pb2 import Checkpoint, EndReason, ResumeFrom, TrainingSpec, WeightsSource
from services.scheduler.domain.kinds import Envelope, Reason, Source, State

OVER = frozenset({JobState.JOB_STATE_FINISHED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_KILLED})
HELD = frozenset({JobState.JOB_STATE_ASSIGNED, JobState.JOB_STATE_RUNNING, JobState.JOB_STATE_STOPPING})


@dataclass(frozen=True, slots=True)
class Job:
    job_id: str
    workspace_id: str
    version: int
    # Position of JobSubmitted: the order of the queue and of lists.
    position: int
    name: str
    spec: TrainingSpec
    submitted_by: str
    submitted_at_ms: int
    requested_runner_id: str
    labels: Mapping[str, str]
    queue_expires_at_ms: int
    warnings: tuple[str, ...]
    state: State = JobState.JOB_STATE_QUEUED
    attempt_id: str = ""
    runner_id: str = ""
    runner_name: str = ""
    simulated: bool = False
    rate_micros: int = 0
    window_ms: int = 0
    assigned_at_ms: int = 0
    interval: ev.ChargedInterval = field(default_factory=ev.ChargedInterval)
    # Why it is being stopped; unspecified while it is not.
    kill_reason: Reason = EndReason.END_REASON_UNSPECIFIED
    kill_message: str = ""
    # While cut off; zero while reachable.
    deadline_at_ms: int = 0
    last_contact_at_ms: int = 0
    # Of the last cut-off, whether it is over or not: when the training had to end, and when its box came back; zero
    # as long as it has not.
    lapse_deadline_at_ms: int = 0
    reachable_at_ms: int = 0
    # What the last cut-off is told as if the training ended in it.
    cut_off_reason: Reason = EndReason.END_REASON_CONNECTION_LOST
    cut_off_message: str = ""
    reason: Reason = EndReason.END_REASON_UNSPECIFIED
    message: str = ""
    checkpoints: tuple[Checkpoint, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluated_step: int = 0
    steps: int = 0
    epochs: int = 0
    # Sequence of the box's last settled report on the attempt.
    settled_report: int = 0
    # Position of the event that ended the attempt, for a later correction.
    outcome_position: int = 0
    # Names what was asked for with the submission, on every event that follows from it.
    correlation_id: str = ""
    # Attempts assigned so far, and those of them that have failed and are tried again.
    attempt: int = 0
    earlier: tuple[EarlierAttempt, ...] = ()
    # The attempt that saved the newest checkpoint.
    saved_by: str = ""
    # Running without an optimiser step since then; zero while it gets on.
    stalled_since_ms: int = 0
    # What it goes on from where it resumes an earlier job, as it was submitted.
    origin: ResumeFrom | None = None
    # What had been trained when each checkpoint was saved, milliseconds by name; the earlier jobs' included.
    trained_at_ms: Mapping[str, int] = field(default_factory=dict)
    # As the training process told them at its start.
    weights: str = ""
    weights_source: Source = WeightsSource.WEIGHTS_SOURCE_UNSPECIFIED
    batch_size: int = 0

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def retries_left(self) -> int:
        # A row that an earlier version wrote counts no attempts, and held one at most.
        return self.spec.limits.retries + 1 - max(self.attempt, 1)

    @property
    def waits_for_retry(self) -> bool:
        return self.state == JobState.JOB_STATE_QUEUED and self.attempt > 0

    @property
    def wanted_runner_id(self) -> str:
        """The only runner that may take it: the one that has its checkpoint, or the one that was asked for."""
        return self.runner_id if self.attempt else self.requested_runner_id

    @property
    def trained_before_ms(self) -> int:
        """What was trained before the current or last attempt, milliseconds: by earlier ones, and by earlier jobs."""
        own = sum(one.interval.charged_until_ms - one.interval.started_at_ms for one in self.earlier)
        return own + (self.origin.trained_ms if self.origin is not None else 0)

    @property
    def trained_ms(self) -> int:
        """What was trained in all, as far as intervals are known, milliseconds."""
        last = self.interval
        return self.trained_before_ms + max(0, last.charged_until_ms - last.started_at_ms)


def evolve(job: Job | None, event: Message, at: Envelope) -> Job:
    """The job after an event. Never refuses."""
    if isinstance(event, ev.JobSubmitted):
        return Job(
            at.stream_id,
            at.workspace_id,
            at.version,
            at.position,
            event.name,
            event.spec,
            at.actor,
            at.at_ms,
            event.runner_id,
            dict(event.labels),
            event.queue_expires_at_ms,
            tuple(event.warnings),
            correlation_id=at.correlation_id,
            origin=event.spec.resume_from if event.spec.HasField("resume_from") else None,
        )
    assert job is not None, "a job's stream begins with JobSubmitted"
    job = replace(job, version=at.version)
    match event:
        case ev.JobAssigned():
            return replace(
                job,
                state=JobState.JOB_STATE_ASSIGNED,
                attempt_id=event.attempt_id,
                runner_id=event.runner_id,
                runner_name=event.runner_name,
                simulated=event.simulated,
                rate_micros=event.rate_micros,
                window_ms=event.window_ms,
                assigned_at_ms=at.at_ms,
                settled_report=0,
                lapse_deadline_at_ms=0,
                reachable_at_ms=0,
                attempt=event.attempt or job.attempt + 1,
                **_from_there(job, event),
            )
        case ev.JobStarted():
            state = job.state if job.kill_reason else JobState.JOB_STATE_RUNNING
            interval = ev.ChargedInterval(started_at_ms=event.started_at_ms)
            return replace(
                job,
                state=state,
                interval=interval,
                settled_report=event.report_sequence,
                weights=event.weights,
                weights_source=event.weights_source,
                batch_size=event.batch_size,
                # A repeat says some of them again.
                warnings=tuple(dict.fromkeys((*job.warnings, *event.warnings))),
            )
        case ev.JobUnreachable():
            return replace(
                job,
                deadline_at_ms=event.deadline_at_ms,
                last_contact_at_ms=event.last_contact_at_ms,
                lapse_deadline_at_ms=event.deadline_at_ms,
                reachable_at_ms=0,
                cut_off_reason=event.reason or EndReason.END_REASON_CONNECTION_LOST,
                cut_off_message=event.message,
            )
        case ev.JobReachable():
            return replace(job, deadline_at_ms=0, last_contact_at_ms=0, reachable_at_ms=at.at_ms)
        case ev.JobStalled():
            return replace(job, stalled_since_ms=event.since_ms, settled_report=event.report_sequence)
        case ev.JobProgressed():
            return replace(job, stalled_since_ms=0, settled_report=event.report_sequence)
        case ev.CheckpointSaved():
            return replace(_with_checkpoint(job, event, at.at_ms), settled_report=event.report_sequence)
        case ev.EvaluationCompleted():
            return replace(
                job, metrics=dict(event.metrics), evaluated_step=event.step, settled_report=event.report_sequence
            )
        case ev.JobKillRequested():
            state = JobState.JOB_STATE_STOPPING if job.state in HELD else job.state
            return replace(job, state=state, kill_reason=event.reason, kill_message=event.message)
        case ev.JobFailed(will_retry=True) | ev.JobKilled(will_retry=True):
            return _again(job, event)
        case ev.JobFinished() | ev.JobFailed() | ev.JobKilled():
            return replace(_ended(job, event), outcome_position=at.position)
        case ev.JobOutcomeCorrected():
            outcome = getattr(event, event.WhichOneof("outcome") or "killed")
            corrected = _ended(job, outcome)
            return replace(corrected, interval=event.interval, settled_report=event.report_sequence)
    raise AssertionError(f"{event.DESCRIPTOR.name} is not an event of a job")


def _from_there(job: Job, event: ev.JobAssigned) -> dict[str, Any]:
    """The settings as this attempt trains them, and what it will not make again of what was evaluated."""
    if not event.HasField("resume_from"):
        return {}
    spec = TrainingSpec()
    spec.CopyFrom(job.spec)
    spec.resume_from.CopyFrom(event.resume_from)
    if job.evaluated_step <= event.resume_from.step:
        return {"spec": spec}
    saved = next((one for one in job.checkpoints if one.name == event.resume_from.checkpoint), Checkpoint())
    evaluated_step = saved.step if saved.metrics else 0
    return {"spec": spec, "evaluated_step": evaluated_step, "metrics": dict(saved.metrics)}


def _again(job: Job, event: ev.JobFailed | ev.JobKilled) -> Job:
    """The attempt is over and the job is not: it waits for the next one."""
    ended = EarlierAttempt(
        attempt_id=event.attempt_id,
        runner_id=job.runner_id,
        runner_name=job.runner_name,
        rate_micros=job.rate_micros,
        interval=event.interval,
        reason=event.reason,
        message=event.message,
        steps=event.steps,
        epochs=event.epochs,
    )
    return replace(
        job,
        state=JobState.JOB_STATE_QUEUED,
        queue_expires_at_ms=event.queue_expires_at_ms,
        interval=ev.ChargedInterval(),
        deadline_at_ms=0,
        stalled_since_ms=0,
        settled_report=event.report_sequence,
        earlier=(*job.earlier, ended),
    )


def _ended(job: Job, event: ev.JobFinished | ev.JobFailed | ev.JobKilled) -> Job:
    job = replace(
        job,
        interval=event.interval,
        deadline_at_ms=0,
        stalled_since_ms=0,
        settled_report=event.report_sequence,
        steps=event.steps,
        epochs=event.epochs,
    )
    if not event.attempt_id and job.earlier:
        # It ended while it waited to be tried again: what was done before remains.
        job = replace(job, steps=job.earlier[-1].steps, epochs=job.earlier[-1].epochs)
    match event:
        case ev.JobFinished():
            return replace(
                job,
                state=JobState.JOB_STATE_FINISHED,
                reason=EndReason.END_REASON_UNSPECIFIED,
                message="",
                metrics=dict(event.metrics) or job.metrics,
            )
        case ev.JobFailed():
            return replace(job, state=JobState.JOB_STATE_FAILED, reason=event.reason, message=event.message)
        case ev.JobKilled():
            return replace(job, state=JobState.JOB_STATE_KILLED, reason=event.reason, message=event.message)


def _with_checkpoint(job: Job, event: ev.CheckpointSaved, at_ms: int) -> Job:
    """Keeps those whose files exist, one entry a name, the newest last; at most one is the best."""
    saved = Checkpoint()
    saved.CopyFrom(event.checkpoint)
    saved.attempt_id, saved.runner_id, saved.artifact_id = event.attempt_id, job.runner_id, ""
    kept = []
    for checkpoint in job.checkpoints:
        if checkpoint.name == saved.name or checkpoint.name in saved.removed:
            continue
        if saved.best and checkpoint.best:
            demoted = Checkpoint()
            demoted.CopyFrom(checkpoint)
            demoted.best = False
            checkpoint = demoted
        kept.append(checkpoint)
    trained_at_ms = {one.name: job.trained_at_ms[one.name] for one in kept if one.name in job.trained_at_ms}
    trained_at_ms[saved.name] = job.trained_before_ms + _trained_by(job, at_ms)
    return replace(job, checkpoints=(*kept, saved), saved_by=event.attempt_id, trained_at_ms=trained_at_ms)


def _trained_by(job: Job, at_ms: int) -> int:
    """What the attempt had trained when the platform heard of something; later than it was, where it was cut off."""
    if not (started_at_ms := job.interval.started_at_ms):
        return 0
    return max(0, min(at_ms, job.interval.charged_until_ms or at_ms) - started_at_ms)
