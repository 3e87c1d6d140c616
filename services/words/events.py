"""Every event in words, for people who read along."""

from collections.abc import Callable
from contextvars import ContextVar
from datetime import tzinfo
from typing import Any, TypeVar

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import artifact_pb2 as artifact
from protos.events.v1 import job_pb2 as job
from protos.events.v1 import runner_pb2 as runner
from protos.events.v1 import workspace_pb2 as workspace
from protos.training.v1.training_pb2 import (
    WEIGHTS_SOURCE_CHECKPOINT,
    WEIGHTS_SOURCE_PRETRAINED,
    EndReason,
    WeightsSource,
    Workflow,
)
from services.words import format as fmt

_PACKAGE = "tether.events.v1."

M = TypeVar("M", bound=Message)
_WORDS: dict[type[Message], Callable[[Any], str]] = {}
# In which times of day are told; None: where the process runs.
_zone: ContextVar[tzinfo | None] = ContextVar("zone", default=None)


def describe(record: EventRecord) -> str:
    """For example `JobAssigned: box-1 takes it at 2.5 minutes a minute (NVIDIA A10G ×1)`."""
    return f"{record.type}: {sentence(record)}"


def sentence(record: EventRecord, zone: tzinfo | None = None) -> str:
    """The event without its name. A type that this version does not know is said to be so.

    Times of day are those of `zone`, which is told with them; None: those of this machine, for who sits at it.
    """
    event = payload(record)
    if event is None:
        return "of a kind that this version of tether does not know"
    token = _zone.set(zone)
    try:
        return _WORDS[type(event)](event)
    finally:
        _zone.reset(token)


def payload(record: EventRecord) -> Message | None:
    """The event that a record carries; None for a type that this version does not know."""
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(_PACKAGE + record.type)
    except KeyError:
        return None
    return message_factory.GetMessageClass(descriptor).FromString(record.payload.value)


def _of(event: type[M]) -> Callable[[Callable[[M], str]], Callable[[M], str]]:
    def keep(words: Callable[[M], str]) -> Callable[[M], str]:
        _WORDS[event] = words
        return words

    return keep


@_of(job.JobSubmitted)
def _submitted(event: job.JobSubmitted) -> str:
    spec, limits = event.spec, event.spec.limits
    ends = fmt.limits(limits)
    where = ", for any runner" if not event.runner_id else ""
    where += f" with {fmt.labels(event.labels)}" if event.labels else ""
    waits = ", waits for a runner if none is free" if event.queued else ""
    warnings = "".join(f"; warning: {warning}" for warning in event.warnings)
    what = f"{spec.architecture.architecture_id} on {spec.dataset.name}, {ends}"
    begins = spec.resume_from
    on = f", from step {begins.step} of {fmt.short_id(begins.job_id)}" if begins.job_id else ""
    return f"“{event.name}” trains {what}{on}{where}{waits}{warnings}"


@_of(job.JobAssigned)
def _assigned(event: job.JobAssigned) -> str:
    gpus = fmt.gpu_types([gpu.type for gpu in event.gpus]) + (", simulated" if event.simulated else "")
    again = ""
    if event.HasField("resume_from"):
        where = f"from step {event.resume_from.step}" if event.resume_from.attempt_id else "from the start"
        again = f", attempt {event.attempt}, {where}"
    return f"{event.runner_name} takes it at {fmt.rate(event.rate_micros)} ({gpus}){again}"


@_of(job.JobStarted)
def _started(event: job.JobStarted) -> str:
    batch = f", {fmt.count(event.batch_size, 'image')} a step" if event.batch_size else ""
    warnings = "".join(f"; warning: {warning}" for warning in event.warnings)
    return (
        f"the training runs, {weights(event.weights, event.weights_source)}{batch}; minutes count from here{warnings}"
    )


def weights(known: str, source: "WeightsSource.ValueType") -> str:
    """`with random weights`; `from checkpoint step-20 of at_k3v9` where the training goes on, which has no source."""
    if source == WEIGHTS_SOURCE_CHECKPOINT:
        return f"with the weights of {known or 'a checkpoint'}"
    if source == WEIGHTS_SOURCE_PRETRAINED:
        return f"with pretrained weights ({known})" if known else "with pretrained weights"
    if " of " in known:
        return f"from checkpoint {known}"
    return f"with {known or 'unknown'} weights"


@_of(job.JobUnreachable)
def _unreachable(event: job.JobUnreachable) -> str:
    window = fmt.duration(event.deadline_at_ms - event.last_contact_at_ms)
    return f"its runner is silent; it ends itself {window} after the last contact, at {_at(event.deadline_at_ms)}"


@_of(job.JobReachable)
def _reachable(event: job.JobReachable) -> str:
    return f"its runner is back after {fmt.duration(event.cut_off_ms)}; the training went on"


@_of(job.JobStalled)
def _stalled(event: job.JobStalled) -> str:
    return f"no optimiser step since {_at(event.since_ms)}; the last was step {event.last_step}"


@_of(job.JobProgressed)
def _progressed(event: job.JobProgressed) -> str:
    return f"it makes steps again, step {event.step} at {_at(event.at_ms)}"


@_of(job.CheckpointSaved)
def _checkpoint(event: job.CheckpointSaved) -> str:
    saved = event.checkpoint
    return f"{saved.name} of step {saved.step}, {fmt.size(saved.bytes)}{', the best so far' if saved.best else ''}"


@_of(job.EvaluationCompleted)
def _evaluation(event: job.EvaluationCompleted) -> str:
    return f"step {event.step}, epoch {event.epoch}: {fmt.metrics(event.metrics)}"


@_of(job.JobFinished)
def _finished(event: job.JobFinished) -> str:
    done = f"{fmt.count(event.steps, 'step')}, {fmt.count(event.epochs, 'epoch')}"
    return f"{done}{_interval(event.interval)}{': ' + fmt.metrics(event.metrics) if event.metrics else ''}"


@_of(job.JobFailed)
def _failed(event: job.JobFailed) -> str:
    return f"{_why(event.reason, event.message)}{_interval(event.interval)}{_again(event)}"


@_of(job.JobKillRequested)
def _kill_requested(event: job.JobKillRequested) -> str:
    return f"is to end, {_why(event.reason, event.message)}"


@_of(job.JobKilled)
def _killed(event: job.JobKilled) -> str:
    return f"{_why(event.reason, event.message)}{_interval(event.interval)}{_again(event)}"


@_of(job.JobOutcomeCorrected)
def _corrected(event: job.JobOutcomeCorrected) -> str:
    outcome = event.WhichOneof("outcome")
    if outcome == "finished":
        truth = f"it finished after {fmt.count(event.finished.steps, 'step')}"
    elif outcome == "failed":
        truth = f"it failed, {_why(event.failed.reason, event.failed.message)}"
    elif outcome == "killed":
        truth = f"it was ended, {_why(event.killed.reason, event.killed.message)}"
    else:
        truth = "its interval is another"
    return f"the box told what really happened: {truth}{_interval(event.interval)}; replaces #{event.corrects_position}"


@_of(artifact.ArtifactStored)
def _stored(event: artifact.ArtifactStored) -> str:
    return f"the platform has {event.kind} {event.name} of {fmt.short_id(event.job_id)}, {fmt.size(event.bytes)}"


@_of(artifact.ArtifactRemoved)
def _removed(event: artifact.ArtifactRemoved) -> str:
    return f"the platform does not have it any more: {event.reason or 'no reason was given'}"


@_of(runner.RunnerRegistered)
def _registered(event: runner.RunnerRegistered) -> str:
    return f"{event.name} exists{', ' + fmt.labels(event.labels) if event.labels else ''}; no box has connected yet"


@_of(runner.RunnerConnected)
def _connected(event: runner.RunnerConnected) -> str:
    busy = f", {len(event.live_attempts)} training still runs there" if event.live_attempts else ""
    return f"{event.inventory.hostname or 'a box'} with {fmt.gpus(event.inventory) or 'no GPU'}{busy}"


@_of(runner.RunnerDisconnected)
def _disconnected(event: runner.RunnerDisconnected) -> str:
    return f"{event.reason or 'the session ended'}; last heard at {_at(event.last_contact_at_ms)}"


@_of(runner.RunnerStatusChanged)
def _status(event: runner.RunnerStatusChanged) -> str:
    now, before = (
        fmt.label(runner.RunnerStatus, status, "RUNNER_STATUS_") for status in (event.status, event.previous)
    )
    was = f", was {before}" if event.previous else ""
    return f"{now}{was}{', holds ' + fmt.short_id(event.job_id) if event.job_id else ''}"


@_of(runner.RunnerInventoryChanged)
def _inventory(event: runner.RunnerInventoryChanged) -> str:
    driver = f", driver {event.inventory.driver_version}" if event.inventory.driver_version else ""
    return f"the box now has {fmt.gpus(event.inventory) or 'no GPU'}{driver}"


@_of(runner.RunnerSuspended)
def _suspended(event: runner.RunnerSuspended) -> str:
    until = f" until {_at(event.until_ms)}" if event.until_ms else ""
    return f"by {_owner(event.owner)}{until}{': ' + event.reason if event.reason else ''}; takes no new training"


@_of(runner.RunnerResumed)
def _resumed(event: runner.RunnerResumed) -> str:
    return f"by {_owner(event.owner)}"


@_of(runner.RunnerSecretKeyRegenerated)
def _regenerated(event: runner.RunnerSecretKeyRegenerated) -> str:
    until = f"works until {_at(event.old_key_valid_until_ms)}" if event.old_key_valid_until_ms else "is refused"
    return f"a new key; the old one {until}"


@_of(runner.RunnerUninstalled)
def _uninstalled(event: runner.RunnerUninstalled) -> str:
    return event.reason or "removed from its box"


@_of(workspace.WorkspaceCreated)
def _workspace(event: workspace.WorkspaceCreated) -> str:
    return event.name


@_of(workspace.TokenCreated)
def _token(event: workspace.TokenCreated) -> str:
    role = fmt.words(workspace.Role, event.role, "ROLE_")
    kinds = {
        workspace.TOKEN_KIND_SIGN_IN_CODE: "a code that opens the page once, ",
        workspace.TOKEN_KIND_SIGN_IN: "a sign-in on the page, ",
    }
    # Names are no part of events any more, because they must be erasable.
    return f"{event.token_id} ({kinds.get(event.kind, '')}{role})"


@_of(workspace.TokenRevoked)
def _revoked(event: workspace.TokenRevoked) -> str:
    return f"{event.token_id} is refused from now on"


@_of(workspace.DatasetRegistered)
def _dataset(event: workspace.DatasetRegistered) -> str:
    return f"{event.dataset.name} at {event.dataset.location}"


@_of(workspace.WorkflowCreated)
def _workflow(event: workspace.WorkflowCreated) -> str:
    return _made_of(event.workflow)


@_of(workspace.WorkflowRevised)
def _workflow_revised(event: workspace.WorkflowRevised) -> str:
    return f"{_made_of(event.workflow)}, revision {event.workflow.revision}"


@_of(workspace.WorkflowDeleted)
def _workflow_deleted(event: workspace.WorkflowDeleted) -> str:
    return f"{event.workflow_id} is gone; trainings that were made from it stay"


@_of(workspace.QuotaSet)
def _quota(event: workspace.QuotaSet) -> str:
    if not event.HasField("quota_milliminutes"):
        return "unlimited compute minutes"
    return f"{fmt.minutes(event.quota_milliminutes)} compute minutes a month"


@_of(workspace.QuotaThresholdReached)
def _threshold(event: workspace.QuotaThresholdReached) -> str:
    return f"{event.percent} % of {event.period}: {_used(event.used_milliminutes, event.quota_milliminutes)}"


@_of(workspace.QuotaExhausted)
def _exhausted(event: workspace.QuotaExhausted) -> str:
    used = _used(event.used_milliminutes, event.quota_milliminutes)
    return f"the minutes of {event.period} are used up: {used}; trainings are stopped"


@_of(workspace.QuotaReplenished)
def _replenished(event: workspace.QuotaReplenished) -> str:
    used = _used(event.used_milliminutes, event.quota_milliminutes)
    return f"minutes of {event.period} are left again: {used}; trainings are accepted"


@_of(workspace.MinutesAdjusted)
def _adjusted(event: workspace.MinutesAdjusted) -> str:
    sign = "+" if event.milliminutes >= 0 else "−"
    about = f" for {fmt.short_id(event.job_id)}" if event.job_id else ""
    return f"{sign}{fmt.minutes(abs(event.milliminutes))} minutes in {event.period}{about}: {event.reason}"


def _made_of(workflow: Workflow) -> str:
    return f"“{workflow.name}” trains {workflow.architecture_id} on {workflow.dataset_id}"


def reason(value: "EndReason.ValueType") -> str:
    """`out of memory`; empty where there is none."""
    return fmt.words(EndReason, value, "END_REASON_") if value else ""


def _why(value: "EndReason.ValueType", message: str) -> str:
    return ": ".join(part for part in (reason(value), message) if part) or "no reason was given"


def _again(event: job.JobFailed | job.JobKilled) -> str:
    return "; the job waits for its runner and is tried again" if event.will_retry else ""


def _interval(interval: job.ChargedInterval) -> str:
    if not interval.started_at_ms:
        return ", not charged"
    charged = fmt.span(interval.charged_until_ms - interval.started_at_ms)
    return f", charged for {charged}{' (presumed)' if interval.presumed else ''}"


def _owner(owner: "runner.SuspensionOwner.ValueType") -> str:
    names = {
        runner.SUSPENSION_OWNER_BOX_OWNER: "the box's owner",
        runner.SUSPENSION_OWNER_ADMIN: "an admin",
        runner.SUSPENSION_OWNER_HEALTH: "the box's health check",
    }
    return names.get(owner, "somebody")


def _used(used_milliminutes: int, quota_milliminutes: int) -> str:
    return f"{fmt.minutes(used_milliminutes)} of {fmt.minutes(quota_milliminutes)} minutes"


def _at(at_ms: int) -> str:
    return fmt.clock_time(at_ms, _zone.get())
