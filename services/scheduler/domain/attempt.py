"""An attempt from its assignment to its end: what its box reports, how it is cut off, lost and stopped."""

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.message import Message

from protos.events.v1 import job_pb2 as ev
from protos.scheduler.v1.job_pb2 import JobState
from protos.scheduler.v1.session_pb2 import BoxMoment, Ended, Outcome, Report
from protos.training.v1.training_pb2 import EndReason
from services.scheduler.domain.job import HELD, OVER, Job
from services.scheduler.domain.kinds import Reason
from services.scheduler.domain.refusals import JobIsOver, StaleReport
from services.scheduler.domain.runner import Runner, ended_on_box, released

# After the window: the time for saving a checkpoint, and what two clocks may differ by.
GRACE_MS = 30_000
_CLOCK_RESERVE_MS = 5_000
# Three heartbeats: a session that is closed was heard at most this long ago.
_HEARD_SHORTLY_BEFORE_MS = 15_000
# How long a job waits for its runner to try it again.
RETRY_LIFETIME_MS = 24 * 3600 * 1000
# Of what a box says for people at its start, no more is kept.
_MAX_TEXT, _MAX_WARNINGS = 500, 20
# The box let the training down, so that the same once more may succeed.
_RETRIED = frozenset({EndReason.END_REASON_INFRASTRUCTURE, EndReason.END_REASON_HOST_REBOOTED})


def lost_after_ms(window_ms: int) -> int:
    """How long after the last contact the training must have ended, whatever the clocks: window + 30 s + 2 % + 5 s."""
    return window_ms + GRACE_MS + window_ms // 50 + _CLOCK_RESERVE_MS


def moment_ms(moment: BoxMoment, earliest_ms: int, latest_ms: int) -> int:
    """Platform time of a moment on the box, held between what is possible: a wrong clock changes no charge."""
    return max(earliest_ms, min(moment.anchor_at_ms + moment.elapsed_ms, latest_ms))


def report(job: Job, runner: Runner, told: Report, now_ms: int) -> tuple[Sequence[Message], Sequence[Message]]:
    """Events of the job and of the runner for one report of the box; none for a repeat.

    Raises StaleReport for an attempt that is not of the job, or was never this runner's.
    """
    if job.runner_id == runner.runner_id and any(one.attempt_id == told.attempt_id for one in job.earlier):
        # All of it was settled before the next attempt was.
        return [], []
    if told.attempt_id != job.attempt_id or job.runner_id != runner.runner_id:
        raise StaleReport(told.attempt_id)
    if told.sequence <= job.settled_report:
        return [], []
    match told.WhichOneof("fact"):
        case "started" if job.state in HELD and not job.interval.started_at_ms:
            at_ms = moment_ms(told.started.at, job.assigned_at_ms, now_ms)
            return [
                ev.JobStarted(
                    attempt_id=job.attempt_id,
                    started_at_ms=at_ms,
                    weights=told.started.weights[:_MAX_TEXT],
                    weights_source=told.started.weights_source,
                    warnings=[warning[:_MAX_TEXT] for warning in told.started.warnings[:_MAX_WARNINGS]],
                    batch_size=told.started.batch_size,
                    report_sequence=told.sequence,
                )
            ], []
        case "checkpointed":
            return [
                ev.CheckpointSaved(
                    attempt_id=job.attempt_id,
                    checkpoint=told.checkpointed.checkpoint,
                    report_sequence=told.sequence,
                )
            ], []
        case "evaluated":
            done = told.evaluated
            return [
                ev.EvaluationCompleted(
                    attempt_id=job.attempt_id,
                    step=done.step,
                    epoch=done.epoch,
                    metrics=done.metrics,
                    report_sequence=told.sequence,
                )
            ], []
        case "stalled" if job.state in HELD:
            since_ms = moment_ms(told.stalled.since, job.assigned_at_ms, now_ms)
            return [
                ev.JobStalled(
                    attempt_id=job.attempt_id,
                    last_step=told.stalled.step,
                    since_ms=since_ms,
                    report_sequence=told.sequence,
                )
            ], []
        case "progressed" if job.state in HELD:
            at_ms = moment_ms(told.progressed.at, job.assigned_at_ms, now_ms)
            return [
                ev.JobProgressed(
                    attempt_id=job.attempt_id, step=told.progressed.step, at_ms=at_ms, report_sequence=told.sequence
                )
            ], []
        case "ended":
            return _ended(job, runner, told, now_ms)
    return [], []


def _ended(job: Job, runner: Runner, told: Report, now_ms: int) -> tuple[Sequence[Message], Sequence[Message]]:
    outcome = _outcome(job, told.ended, _interval(job, told.ended, now_ms), told.sequence)
    if job.state in OVER:
        # The platform had presumed an end; the box tells the truth, which replaces it.
        corrected = ev.JobOutcomeCorrected(
            attempt_id=job.attempt_id,
            corrects_position=job.outcome_position,
            interval=outcome.interval,
            report_sequence=told.sequence,
        )
        match outcome:
            case ev.JobFinished():
                corrected.finished.CopyFrom(outcome)
            case ev.JobFailed():
                corrected.failed.CopyFrom(outcome)
            case ev.JobKilled():
                corrected.killed.CopyFrom(outcome)
        return [corrected], ended_on_box(runner, told.attempt_id)
    if not isinstance(outcome, ev.JobFinished) and _tried_again(job, outcome.reason):
        outcome.will_retry = True
        outcome.queue_expires_at_ms = now_ms + RETRY_LIFETIME_MS
    return [outcome], ended_on_box(runner, told.attempt_id)


def _tried_again(job: Job, reason: Reason) -> bool:
    """Whether the job gets another attempt: the box is to blame, nobody wants it to end, and repeats are left."""
    return reason in _RETRIED and not job.kill_reason and job.retries_left > 0


def _interval(job: Job, ended: Ended, now_ms: int) -> ev.ChargedInterval:
    """Charged: from the start of the training process to its end, or to the moment its stop began if that is first."""
    if not ended.HasField("started_at"):
        return ev.ChargedInterval(ended_at_ms=moment_ms(ended.ended_at, job.assigned_at_ms, now_ms))
    start = job.interval.started_at_ms or moment_ms(ended.started_at, job.assigned_at_ms, now_ms)
    end = moment_ms(ended.ended_at, start, now_ms)
    until = moment_ms(ended.stop_began_at, start, end) if ended.HasField("stop_began_at") else end
    if job.lapse_deadline_at_ms and not 0 < job.reachable_at_ms < until:
        # It ended while it was cut off: two clocks differ a little, and nothing is charged beyond the window.
        until = min(until, max(start, job.lapse_deadline_at_ms))
    return ev.ChargedInterval(started_at_ms=start, charged_until_ms=until, ended_at_ms=end)


def _outcome(
    job: Job, ended: Ended, interval: ev.ChargedInterval, sequence: int
) -> ev.JobFinished | ev.JobFailed | ev.JobKilled:
    if ended.outcome == Outcome.OUTCOME_FINISHED:
        return ev.JobFinished(
            attempt_id=job.attempt_id,
            interval=interval,
            steps=ended.steps,
            epochs=ended.epochs,
            metrics=ended.metrics,
            report_sequence=sequence,
        )
    if ended.outcome == Outcome.OUTCOME_FAILED:
        return ev.JobFailed(
            attempt_id=job.attempt_id,
            interval=interval,
            reason=ended.reason,
            message=ended.message,
            steps=ended.steps,
            epochs=ended.epochs,
            report_sequence=sequence,
        )
    # Who asked for the end, or cut the box off, knows better than the box why.
    reason, message = job.kill_reason or ended.reason, job.kill_message or ended.message
    if reason == EndReason.END_REASON_CONNECTION_LOST:
        reason, message = job.cut_off_reason, job.cut_off_message or message
    return ev.JobKilled(
        attempt_id=job.attempt_id,
        interval=interval,
        reason=reason,
        message=message,
        steps=ended.steps,
        epochs=ended.epochs,
        report_sequence=sequence,
    )


def stop(job: Job, reason: Reason, message: str) -> list[Message]:
    """End a job: one that waits at once, one that runs through its box. Raises JobIsOver."""
    if job.state in OVER:
        raise JobIsOver(job.job_id, job.state)
    if job.kill_reason:
        return []
    requested = ev.JobKillRequested(reason=reason, message=message)
    if job.state == JobState.JOB_STATE_QUEUED:
        return [requested, ev.JobKilled(reason=reason, message=message, interval=ev.ChargedInterval())]
    return [requested]


def expire(job: Job, runner: Runner | None, now_ms: int) -> list[Message]:
    """A job that has waited too long ends, and one whose runner is gone for good; `runner` is the one it waits for."""
    if job.state != JobState.JOB_STATE_QUEUED:
        return []
    reason = EndReason.END_REASON_QUEUE_EXPIRED
    if runner is not None and runner.uninstalled:
        reason = EndReason.END_REASON_RUNNER_UNINSTALLED
        message = f"runner {runner.name}, for which the job waited, was uninstalled; submit it again for another one"
    elif now_ms < job.queue_expires_at_ms:
        return []
    elif job.waits_for_retry:
        message = f"runner {job.runner_name} did not take the job again within its time; see why it is not ONLINE"
    else:
        message = "no runner took the job within its time; submit it again, or connect a runner that matches"
    if job.earlier:
        message += f" (attempt {job.attempt} had ended: {job.earlier[-1].message})"
    return [ev.JobKilled(reason=reason, message=message, interval=ev.ChargedInterval())]


def cut_off(job: Job, runner: Runner, last_contact_ms: int) -> list[Message]:
    """The runner is silent: the training ends itself at the deadline, not before."""
    if job.state not in HELD or job.deadline_at_ms:
        return []
    by_key = EndReason.END_REASON_SECRET_KEY_REGENERATED
    return [
        ev.JobUnreachable(
            attempt_id=job.attempt_id,
            last_contact_at_ms=last_contact_ms,
            deadline_at_ms=last_contact_ms + job.window_ms,
            reason=by_key if _by_the_key(runner, last_contact_ms) else EndReason.END_REASON_CONNECTION_LOST,
            message=_key_message(runner) if _by_the_key(runner, last_contact_ms) else "",
        )
    ]


def _by_the_key(runner: Runner, last_contact_ms: int) -> bool:
    """Whether the box went silent because its old key is refused: it was still heard when that began."""
    return bool(runner.key_made_at_ms) and last_contact_ms >= runner.old_key_until_ms - _HEARD_SHORTLY_BEFORE_MS


def _key_message(runner: Runner) -> str:
    made_at = datetime.fromtimestamp(runner.key_made_at_ms / 1000, UTC)
    return (
        f"the secret key of runner {runner.name} was regenerated by {runner.key_made_by} at "
        f"{made_at:%Y-%m-%d %H:%M} UTC, and the box did not come back with the new one"
    )


def reached_again(job: Job, now_ms: int) -> list[Message]:
    if job.state not in HELD or not job.deadline_at_ms:
        return []
    return [ev.JobReachable(attempt_id=job.attempt_id, cut_off_ms=max(0, now_ms - job.last_contact_at_ms))]


def lost(job: Job, runner: Runner, now_ms: int) -> tuple[Sequence[Message], Sequence[Message]]:
    """The training must have ended by now: say so. It is charged to last contact + window, until the box tells more."""
    if job.state not in HELD or not job.deadline_at_ms or runner.connected:
        return [], []
    if now_ms < job.last_contact_at_ms + lost_after_ms(job.window_ms):
        return [], []
    interval = ev.ChargedInterval(presumed=True)
    if job.interval.started_at_ms:
        interval.started_at_ms = job.interval.started_at_ms
        interval.charged_until_ms = max(job.interval.started_at_ms, job.deadline_at_ms)
        interval.ended_at_ms = interval.charged_until_ms
    minutes = job.window_ms / 60_000
    killed = ev.JobKilled(
        attempt_id=job.attempt_id,
        interval=interval,
        reason=job.kill_reason or job.cut_off_reason,
        message=job.kill_message
        or job.cut_off_message
        or f"runner {job.runner_name} was not heard for {minutes:g} minutes, so the training has ended itself",
    )
    return [killed], [released(runner)] if runner.attempt_id == job.attempt_id else []
