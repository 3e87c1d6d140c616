"""One job in full: what was asked, what came of it, where it lies, what it cost, and what happened in order."""

from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from protos.eventlog.v1.eventlog_pb2 import EventFilter, EventRecord, ReadEventsRequest
from protos.metrics.v1.metrics_pb2 import ListSeriesRequest
from protos.quota.v1.quota_pb2 import Charge, ListChargesRequest
from protos.scheduler.v1 import job_pb2 as pb
from protos.training.v1.training_pb2 import CheckpointPolicy, TrainingSpec
from services.cli import evaluation_view
from services.cli.connection import Platform
from services.cli.jobs_resume import places
from services.cli.live_state import LiveState
from services.cli.metrics import refusals
from services.cli.settings_view import augmentations, begins, hyperparameters
from services.cli.states import job_state
from services.cli.tables import facts, table
from services.words import format as fmt
from services.words.events import reason, sentence, weights

# Runs of evaluations and checkpoints longer than this are folded to their first and last.
_LONGEST_RUN, _RUN_HEAD, _RUN_TAIL = 10, 2, 4
_RUNS = ("EvaluationCompleted", "CheckpointSaved")


def details(platform: Platform, job: pb.Job, now_ms: int, as_of_position: int = 0) -> RenderableType:
    """Parts that another service cannot tell at the moment say so; the rest is shown.

    With a position the job is as of the past, and `now_ms` is that moment.
    """
    parts: list[RenderableType] = [_head(job, now_ms), *_section("Settings", _settings(job.spec))]
    if job.checkpoints:
        parts += _section("Checkpoints", _checkpoints(job))
    if job.evaluated_step:
        for title, content in evaluation_view.sections(platform, job, past=bool(as_of_position)):
            parts += _section(title, content)
    if not as_of_position:
        listed = evaluation_view.optional(lambda: platform.metrics.ListSeries(ListSeriesRequest(job_id=job.job_id)))
        if listed is not None and listed.refused:
            parts += _section("Refused of what it reported", Text("\n".join(refusals(listed)), "yellow"))
    parts += _section("Cost", _cost(platform, job, now_ms, past=bool(as_of_position)))
    parts += _section("Events", _events(platform, job, as_of_position))
    return Group(*parts)


def _head(job: pb.Job, now_ms: int) -> RenderableType:
    state = LiveState(job)
    interval = job.interval
    took = fmt.span(state.elapsed_ms(now_ms)) if interval.started_at_ms or job.earlier_attempts else ""
    steps = fmt.count(state.step, "step") if state.step and took else ""
    simulated = Text(" simulated GPUs", "yellow") if job.simulated else Text("")
    waiting = f"number {job.queue_position} in the queue, for {job.waiting_for}" if job.queue_position else ""
    return facts(
        ("name", Text(job.name, "bold")),
        ("state", job_state(job, now_ms)),
        ("message", job.message),
        ("waiting", waiting),
        ("result", Text(fmt.metrics(job.metrics), "bold green") if job.metrics else ""),
        ("runner", Text(job.runner_name) + simulated if job.runner_name else ""),
        ("submitted", f"{fmt.moment(job.submitted_at_ms)} by {job.submitted_by}"),
        ("started", f"{fmt.moment(interval.started_at_ms)}{_start(job)}" if interval.started_at_ms else ""),
        ("took", ", ".join(part for part in (took, steps) if part)),
        *(_earlier(number, one) for number, one in enumerate(job.earlier_attempts, 1)),
        *(("warning", Text(warning, "yellow")) for warning in job.warnings),
        ("id", Text(job.job_id, "dim")),
    )


def _start(job: pb.Job) -> str:
    """Empty where an earlier version did not tell."""
    batch = f", {fmt.count(job.batch_size, 'image')} a step" if job.batch_size else ""
    return f", {weights(job.weights, job.weights_source)}{batch}" if job.weights else batch


def _earlier(number: int, one: pb.EarlierAttempt) -> tuple[str, Text]:
    charged = fmt.span(one.interval.charged_until_ms - one.interval.started_at_ms)
    return f"attempt {number}", Text(f"{reason(one.reason)}: {one.message} ({fmt.count(one.steps, 'step')}, {charged})")


def _settings(spec: TrainingSpec) -> RenderableType:
    limits, strategy = spec.limits, spec.checkpoint_strategy
    until = fmt.limits(limits)
    if limits.early_stopping_patience:
        until += f", or {limits.early_stopping_patience} evaluations without improvement"
    if limits.stop_when_stalled:
        until += f", or {fmt.count(limits.stall_minutes, 'minute')} without a step"
    every = (
        f"every {strategy.evaluation_interval_steps:,} steps" if strategy.evaluation_interval_steps else "each epoch"
    )
    policy = strategy.policy or CheckpointPolicy.CHECKPOINT_POLICY_BEST_METRIC
    extra = [
        word
        for wanted, word in (
            (spec.advanced_evaluation.enabled, "advanced evaluation (minutes × 1.5)"),
            (spec.advanced_evaluation.confusion_matrix, "confusion matrix"),
        )
        if wanted
    ]
    made_from = f"{spec.workflow_name}, revision {spec.workflow_revision}" if spec.workflow_id else ""
    return facts(
        ("workflow", made_from),
        ("dataset", f"{spec.dataset.name} ({spec.dataset.location})"),
        ("architecture", spec.architecture.architecture_id),
        ("until", until),
        ("repeats", f"up to {limits.retries}, where the box lets it down" if limits.retries else ""),
        ("begins with", begins(spec)),
        ("hyperparameters", hyperparameters(spec.hyperparameters)),
        ("augmentations", augmentations(spec)),
        ("checkpoints", f"{fmt.words(CheckpointPolicy, policy, 'CHECKPOINT_POLICY_')}, evaluated {every}"),
        ("evaluation", ", ".join(extra)),
    )


def _checkpoints(job: pb.Job) -> RenderableType:
    made = table("step", "epoch", "metrics", "size", "path", "lies on", right=("step", "epoch", "size"))
    for one in job.checkpoints:
        path = Text(one.path or one.name)
        metrics = Text(fmt.metrics(one.metrics)).append("  best" if one.best else "", "green")
        made.add_row(f"{one.step:,}", str(one.epoch), metrics, fmt.size(one.bytes), path, places(job, one))
    return made


def _cost(platform: Platform, job: pb.Job, now_ms: int, past: bool) -> RenderableType:
    request = ListChargesRequest(job_id=job.job_id)
    # A charge is told as it is now; of the past the job itself tells.
    charges = None if past else evaluation_view.optional(lambda: list(platform.quota.ListCharges(request).charges))
    if charges:
        return _charge(charges[0])
    if not job.interval.started_at_ms:
        return Text("nothing: the training process has not started", "dim")
    minutes = fmt.minutes(LiveState(job).charged_milliminutes(now_ms))
    return Text(f"{minutes} compute minutes at {fmt.rate(job.rate_micros)}, by the job's own record")


def _charge(charge: Charge) -> RenderableType:
    rows = [("total", Text(f"{fmt.minutes(charge.milliminutes)} compute minutes", "bold"))]
    for attempt in charge.attempts:
        interval = attempt.interval
        charged = fmt.span(interval.charged_until_ms - interval.started_at_ms) if interval.started_at_ms else "0 s"
        notes = [word for wanted, word in ((interval.presumed, "presumed"), (attempt.simulated, "simulated")) if wanted]
        end = f" to #{attempt.ended_position}" if attempt.ended_position else ", still counting"
        words = f"{charged} on {attempt.runner_name} at {fmt.rate(attempt.rate_micros)}"
        rows.append(("attempt", Text(f"{', '.join([words, *notes])} (events #{attempt.assigned_position}{end})")))
    return facts(*rows)


def _events(platform: Platform, job: pb.Job, to_position: int) -> RenderableType:
    def read() -> list[EventRecord]:
        wanted = EventFilter(stream_kind="job", stream_id=job.job_id)
        stream = platform.eventlog.ReadEvents(ReadEventsRequest(to_position=to_position, filter=wanted))
        return [record for response in stream for record in response.events]

    records = evaluation_view.optional(read)
    if records is None:
        return Text("cannot be read now (this takes the role admin or analyst, and the event log's service)", "dim")
    made = table("position", "time", "event", "", right=("position",), keep=("time", "event"))
    for is_run, group in groupby(records, lambda record: record.type in _RUNS):
        run = list(group)
        fold = is_run and len(run) > _LONGEST_RUN
        for record in run[:_RUN_HEAD] if fold else run:
            made.add_row(*_event(record))
        if fold:
            folded = f"… {len(run) - _RUN_HEAD - _RUN_TAIL} more evaluations and checkpoints"
            made.add_row("", "", "", Text(f"{folded}: tether events --job {fmt.short_id(job.job_id)}", "dim"))
            for record in run[-_RUN_TAIL:]:
                made.add_row(*_event(record))
    return made


def _event(record: EventRecord) -> tuple[str, Text, str, Text]:
    at = fmt.clock_time(record.recorded_at_us // 1000)
    return str(record.position), Text(at, "dim"), record.type, Text(sentence(record))


def _section(title: str, content: RenderableType) -> list[RenderableType]:
    return ["", Text(title, "bold"), content]
