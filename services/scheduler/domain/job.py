"""A job: what it is and how events change it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from google.protobuf.message import Message

from protos.events.v1 import job_pb2 as ev
from protos.scheduler.v1.job_pb2 import JobState
from protos.training.v1.training_pb2 import Checkpoint, EndReason, TrainingSpec
from services.scheduler.domain.kinds import Envelope, Reason, State

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

    @property
    def over(self) -> bool:
        return self.state in OVER


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
            )
        case ev.JobStarted():
            state = job.state if job.kill_reason else JobState.JOB_STATE_RUNNING
            interval = ev.ChargedInterval(started_at_ms=event.started_at_ms)
            return replace(job, state=state, interval=interval, settled_report=event.report_sequence)
        case ev.JobUnreachable():
            return replace(
                job,
                deadline_at_ms=event.deadline_at_ms,
                last_contact_at_ms=event.last_contact_at_ms,
                cut_off_reason=event.reason or EndReason.END_REASON_CONNECTION_LOST,
                cut_off_message=event.message,
            )
        case ev.JobReachable():
            return replace(job, deadline_at_ms=0, last_contact_at_ms=0)
        case ev.JobStalled():
            return job
        case ev.CheckpointSaved():
            return replace(
                job, checkpoints=_with_checkpoint(job, event.checkpoint), settled_report=event.report_sequence
            )
        case ev.EvaluationCompleted():
            return replace(
                job, metrics=dict(event.metrics), evaluated_step=event.step, settled_report=event.report_sequence
            )
        case ev.JobKillRequested():
            state = JobState.JOB_STATE_STOPPING if job.state in HELD else job.state
            return replace(job, state=state, kill_reason=event.reason, kill_message=event.message)
        case ev.JobFinished() | ev.JobFailed() | ev.JobKilled():
            return replace(_ended(job, event), outcome_position=at.position)
        case ev.JobOutcomeCorrected():
            outcome = getattr(event, event.WhichOneof("outcome") or "killed")
            corrected = _ended(job, outcome)
            return replace(corrected, interval=event.interval, settled_report=event.report_sequence)
    raise AssertionError(f"{event.DESCRIPTOR.name} is not an event of a job")


def _ended(job: Job, event: ev.JobFinished | ev.JobFailed | ev.JobKilled) -> Job:
    job = replace(
        job,
        interval=event.interval,
        deadline_at_ms=0,
        settled_report=event.report_sequence,
        steps=event.steps,
        epochs=event.epochs,
    )
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


def _with_checkpoint(job: Job, saved: Checkpoint) -> tuple[Checkpoint, ...]:
    """Those whose files exist, one entry a name, the newest last; at most one is the best."""
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
    return (*kept, saved)
