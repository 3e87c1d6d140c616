"""The live view: a job's state drawn for a terminal, its end in a few lines, and plain lines for a pipe."""

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from protos.scheduler.v1 import job_pb2 as pb
from services.cli.live_state import LOSS, VALIDATION_LOSS, Curve, LiveState
from services.cli.states import attempt, job_state
from services.words import format as fmt
from services.words.events import reason

_BAR_WIDTH, _SPARK_WIDTH = 40, 28
_LABEL_WIDTH, _VALUE_WIDTH = 17, 10
_MAX_GPUS = 8


def panel(state: LiveState, now_ms: int, spinner: Spinner) -> RenderableType:
    """Everything about a job that goes on; at most 20 lines."""
    job = state.job
    parts: list[RenderableType] = ["", _title(job), _where(state, now_ms)]
    parts += [Text.from_markup(f"[yellow]! {escape(warning)}[/]") for warning in job.warnings[:3]]
    if job.earlier_attempts:
        parts.append(Text(_last_attempt(job), "yellow"))
    if job.state in (pb.JOB_STATE_QUEUED, pb.JOB_STATE_ASSIGNED):
        spinner.update(text=Text(_waiting(job), "cyan"))
        parts += ["", spinner]
    else:
        parts += ["", _progress(state, now_ms), "", _figures(state, now_ms)]
    if state.cut_off:
        parts += [
            "",
            Text("its box is not heard; the training goes on, and what it did arrives when it is back", "yellow"),
        ]
    if state.reconnecting:
        spinner.update(text=Text("reconnecting… the training goes on meanwhile", "yellow"))
        parts += ["", spinner]
    parts += ["", Text("Ctrl-C leaves it running", "dim")]
    return Group(*parts)


def summary(state: LiveState) -> RenderableType:
    """How a job ended, what it left and what it cost."""
    job = state.job
    elapsed_ms, style = state.elapsed_ms(0), "green" if job.state == pb.JOB_STATE_FINISHED else "red"
    head = job_state(job, 0)
    head.append(f"  {job.name}", "bold")
    parts: list[RenderableType] = ["", head]
    if job.message and job.state != pb.JOB_STATE_FINISHED:
        parts.append(Text(f"  {job.message}", style))
    rows = Table.grid(padding=(0, 2))
    if job.metrics:
        rows.add_row("  result", Text(fmt.metrics(job.metrics), "bold"))
    for checkpoint in job.checkpoints[-3:]:
        best = Text("  best", "green") if checkpoint.best else Text("")
        rows.add_row("  checkpoint", Text(checkpoint.path or checkpoint.name, overflow="fold") + best)
    if elapsed_ms:
        done = fmt.count(state.step, "step") + (f", {fmt.count(job.epochs, 'epoch')}" if job.epochs else "")
        rows.add_row("  took", f"{fmt.span(elapsed_ms)} for {done}")
    rows.add_row("  cost", _cost(state, 0))
    short = fmt.short_id(job.job_id)
    more = "logs" if job.state == pb.JOB_STATE_FAILED else "show"
    hint = f"  tether jobs {more} {short}   ·   tether metrics show {short}"
    return Group(*parts, rows, Text(hint, "dim"), "")


def plain(state: LiveState) -> str:
    """One line with what is new; equal lines mean that nothing worth a line has happened."""
    job = state.job
    said = fmt.label(pb.JobState, job.state, "JOB_STATE_")
    if state.over and job.reason:
        said += f" · {reason(job.reason)}"
    if again := attempt(job):
        said += f" · {again}"
    if job.stalled_since_ms:
        said += f" · ⚠ no step since {fmt.clock_time(job.stalled_since_ms)}"
    if state.cut_off:
        said += f" · cut off · ends itself at {fmt.clock_time(job.deadline_at_ms)}"
    if job.state == pb.JOB_STATE_QUEUED or job.state == pb.JOB_STATE_ASSIGNED:
        why = f"; {_last_attempt(job)}" if job.earlier_attempts else ""
        return f"{said}  {_waiting(job)}{why}"
    if state.over:
        done = fmt.count(state.step, "step") if state.step else "before its first step"
        return f"{said}  {job.message or done}"
    if not job.evaluated_step:
        return f"{said}  {_on(job)}"
    total = state.total_steps()
    return f"{said}  step {job.evaluated_step}{f'/{total}' if total else ''}  {fmt.metrics(job.metrics)}"


def plain_figures(state: LiveState, now_ms: int) -> str:
    """What belongs after a plain line but is no news by itself."""
    if not state.elapsed_ms(now_ms):
        return ""
    minutes = fmt.minutes(state.charged_milliminutes(now_ms))
    return f"  ({fmt.duration(state.elapsed_ms(now_ms))}, {minutes} compute minutes)"


def _last_attempt(job: pb.Job) -> str:
    last = job.earlier_attempts[-1]
    return f"attempt {len(job.earlier_attempts)} ended: {reason(last.reason)}: {last.message}"


def _title(job: pb.Job) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(Text(job.name, "bold"), Text(job.job_id, "dim"))
    return grid


def _where(state: LiveState, now_ms: int) -> Text:
    text = job_state(state.job, now_ms)
    return text.append(f"  {_on(state.job)}", "not bold default") if state.job.runner_name else text


def _on(job: pb.Job) -> str:
    simulated = " · simulated GPUs" if job.simulated else ""
    return f"on {job.runner_name}{simulated} · {fmt.rate(job.rate_micros)}"


def _waiting(job: pb.Job) -> str:
    if job.state == pb.JOB_STATE_QUEUED:
        place = f"number {job.queue_position} in the queue" if job.queue_position else "in the queue"
        return f"{place}{', waiting for ' + job.waiting_for if job.waiting_for else ''}"
    return f"loading on {job.runner_name}: torch starts and the dataset is checked, free of charge"


def _progress(state: LiveState, now_ms: int) -> RenderableType:
    share, total, limits = state.share_done(now_ms), state.total_steps(), state.job.spec.limits
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(
        total=1.0 if share is not None else None,
        completed=share or 0.0,
        width=_BAR_WIDTH,
        pulse=share is None,
        complete_style="green",
        animation_time=now_ms / 1000,
    )
    words = [f"step {state.step:,}" + (f" of {total:,}" if total else "")]
    if limits.epochs:
        epoch = state.epoch()
        words.insert(0, f"epoch {epoch} of {limits.epochs}" if epoch else fmt.count(limits.epochs, "epoch"))
    grid.add_row(bar, f"{share:>4.0%} " if share is not None else "", Text(" · ".join(words), "default"))
    return grid


def _figures(state: LiveState, now_ms: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=_LABEL_WIDTH)
    # Fixed, so that nothing jumps when a value gets longer.
    grid.add_column(min_width=_VALUE_WIDTH)
    grid.add_column()
    for name, label in ((LOSS, "train"), (VALIDATION_LOSS, "validation")):
        curve = state.curves.get(name)
        if curve and curve.values:
            grid.add_row(Text(f"loss ({label})", "dim"), _value(curve), Text(_spark(curve), "cyan"))
    if (quality := state.quality()) is not None:
        name, curve = quality
        grid.add_row(Text(fmt.metric_name(name), "dim"), _value(curve), Text(_spark(curve), "green"))
    elif state.job.metrics:
        grid.add_row(Text("evaluation", "dim"), fmt.metrics(state.job.metrics), "")
    for label, used, more in _machine(state):
        grid.add_row(Text(label, "dim"), used, Text(more, "dim"))
    left_ms = state.left_ms(now_ms)
    left = f"about {fmt.duration(left_ms)} left" if left_ms is not None else ""
    grid.add_row(Text("elapsed", "dim"), fmt.duration(state.elapsed_ms(now_ms)), Text(left, "dim"))
    grid.add_row(Text("cost", "dim"), fmt.minutes(state.charged_milliminutes(now_ms)), Text("compute minutes", "dim"))
    return grid


def _machine(state: LiveState) -> Iterator[tuple[str, str, str]]:
    """Rows of GPUs and CPU: label, utilisation, the rest."""

    def last(name: str) -> float:
        return state.curves.get(name, Curve()).last

    for index in range(_MAX_GPUS):
        used, memory, heat = (
            last(f"gpu{index}/{what}") for what in ("utilization_percent", "memory_used_bytes", "temperature_celsius")
        )
        if math.isfinite(used):
            more = [fmt.size(int(memory))] if math.isfinite(memory) else []
            more += [f"{heat:.0f} °C"] if math.isfinite(heat) else []
            yield f"GPU {index}", f"{used:.0f} %", " · ".join(more)
    used, memory = last("process/cpu_utilization_percent"), last("process/memory_used_bytes")
    if math.isfinite(used):
        yield "CPU", f"{used:.0f} %", fmt.size(int(memory)) if math.isfinite(memory) else ""


def _value(curve: Curve) -> Text:
    return Text(fmt.number(curve.last), "bold" if math.isfinite(curve.last) else "bold red")


def _spark(curve: Curve) -> str:
    return fmt.sparkline(curve.values, _SPARK_WIDTH)


def _cost(state: LiveState, now_ms: int) -> str:
    job = state.job
    if not job.interval.started_at_ms and not job.earlier_attempts:
        return "nothing: the training process never started"
    minutes = fmt.minutes(state.charged_milliminutes(now_ms))
    presumed = ", presumed until its box is heard of again" if job.interval.presumed else ""
    if job.earlier_attempts:
        return f"{minutes} compute minutes (in {job.attempt} attempts{presumed})"
    return f"{minutes} compute minutes ({fmt.span(state.charged_ms(now_ms))} at {fmt.rate(job.rate_micros)}{presumed})"
