"""`tether jobs compare`: trainings side by side."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from rich.text import Text

from protos.metrics.v1.evaluation_pb2 import ListEvaluationsRequest
from protos.metrics.v1.ingest_pb2 import Evaluation
from protos.scheduler.v1 import job_pb2 as pb
from protos.training.v1.training_pb2 import TrainingSpec
from services.cli import completion, evaluation_view, pick
from services.cli.connection import Platform, connect
from services.cli.errors import CliError
from services.cli.live_state import LiveState
from services.cli.output import console
from services.cli.parameters import AsJson
from services.cli.states import job_state
from services.cli.tables import table
from services.clock import PlatformClock
from services.words import format as fmt

_MOST = 8
# Of the spec; what an architecture is made of, and where a repeat goes on, says its name better.
_LEFT_OUT = ("architecture.", "resume_from.", "dataset.dataset_id", "workflow_id")
_BEST = " ★"
# How values of enumerations begin.
_ENUMS = ("DATASET_FORMAT_", "CHECKPOINT_POLICY_", "WEIGHTS_SOURCE_", "OPTIMIZER_", "SCHEDULE_", "PRECISION_")

Jobs = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB...", help="Two or more: ids, beginnings, names, `last`.", autocompletion=completion.job
    ),
]


def register(group: typer.Typer) -> None:
    group.command("compare", epilog="Example: tether jobs compare last jb_abcdef23")(compare)


@dataclass(frozen=True)
class Side:
    """One of the trainings, with the best of its evaluations by the task's own metric."""

    job: pb.Job
    step: int
    metrics: Mapping[str, float]
    milliminutes: int
    elapsed_ms: int


def compare(context: typer.Context, jobs: Jobs, as_json: AsJson = False) -> None:
    """Put trainings side by side: settings that differ, metrics at their best evaluation, minutes, rate."""
    if not 2 <= len(jobs) <= _MOST:
        raise CliError(f"{fmt.count(len(jobs), 'job')} cannot be compared; name 2 to {_MOST} of them")
    platform, now_ms = connect(context), PlatformClock().now_ms()
    found = [pick.job(platform, named) for named in jobs]
    if len({one.job_id for one in found}) < len(found):
        raise CliError("the same job is named twice; name different ones")
    sides = [_side(platform, one, now_ms) for one in found]
    settings = differences([one.job.spec for one in sides])
    # Losses and metrics of different tasks have nothing to do with each other.
    alike = len({one.job.spec.architecture.task for one in sides}) == 1
    best = best_of([one.metrics for one in sides]) if alike else {}
    if as_json:
        print(_json(sides, settings, best))
        return
    console().print(_table(sides, settings, best, now_ms))
    if not settings:
        console().print("[dim]Their settings are the same.[/]")
    if best:
        console().print(f"[dim]{_BEST.strip()}: the best of them, each at its own best evaluation.[/]")


def _side(platform: Platform, job: pb.Job, now_ms: int) -> Side:
    state = LiveState(job)
    request = ListEvaluationsRequest(job_id=job.job_id)
    answer = evaluation_view.optional(lambda: platform.evaluations.ListEvaluations(request))
    best = best_evaluation(answer.evaluations if answer is not None else [])
    step, metrics = (best.step, dict(best.metrics)) if best is not None else (job.evaluated_step, dict(job.metrics))
    return Side(job, step, metrics, state.charged_milliminutes(now_ms), state.elapsed_ms(now_ms))


def best_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """By the task's own metric, else by the loss; of equals the earliest."""

    def rank(one: Evaluation) -> float:
        for name in (*fmt.PRIMARY, fmt.LOSS):
            if name in one.metrics:
                value = one.metrics[name]
                return -math.inf if math.isnan(value) else -value if name == fmt.LOSS else value
        return -math.inf

    return max(evaluations, key=rank, default=None)


def differences(specs: Sequence[TrainingSpec]) -> dict[str, list[Any]]:
    """Setting → its values in the order of the trainings, None where it is not set; only those that differ."""
    flat = [_flat(spec) for spec in specs]
    names = dict.fromkeys(name for one in flat for name in one)
    values = {name: [one.get(name) for one in flat] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def _flat(spec: TrainingSpec) -> dict[str, Any]:
    whole = MessageToDict(spec, preserving_proto_field_name=True)
    leaves = {"architecture": spec.architecture.architecture_id, **dict(_leaves(whole, ""))}
    return {name: value for name, value in leaves.items() if not name.startswith(_LEFT_OUT)}


def _leaves(tree: Mapping[str, Any], path: str) -> list[tuple[str, Any]]:
    found = []
    for name, value in tree.items():
        found += _leaves(value, f"{path}{name}.") if isinstance(value, dict) else [(path + name, value)]
    return found


def best_of(measured: Sequence[Mapping[str, float]]) -> dict[str, set[int]]:
    """Metric → which trainings are best in it; only metrics that at least two of them have, and differ in."""
    found: dict[str, set[int]] = {}
    for name in dict.fromkeys(name for one in measured for name in one):
        values = {at: one[name] for at, one in enumerate(measured) if math.isfinite(one.get(name, math.nan))}
        if len(set(values.values())) > 1:
            best = min(values.values()) if name.endswith("loss") else max(values.values())
            found[name] = {at for at, value in values.items() if value == best}
    return found


def _table(sides: Sequence[Side], settings: Mapping[str, list[Any]], best: Mapping[str, set[int]], now_ms: int) -> Any:
    made = table("", *(fmt.short_id(one.job.job_id) for one in sides))
    made.add_row("name", *(Text(one.job.name, "bold") for one in sides))
    made.add_row("state", *(job_state(one.job, now_ms, why=False) for one in sides))
    made.add_row("runner", *(Text(one.job.runner_name) for one in sides))
    for name, values in settings.items():
        shown = (name.removeprefix("hyperparameters.")).replace("_", " ").replace(".", ", ")
        made.add_row(Text(shown, "cyan"), *(Text(_shown(name, value)) for value in values))
    made.add_row("best at step", *(f"{one.step:,}" if one.step else "–" for one in sides))
    for name in fmt.by_importance({name: 0.0 for one in sides for name in one.metrics}):
        cells = []
        for at, one in enumerate(sides):
            is_best = at in best.get(name, ())
            value = fmt.number(one.metrics[name]) if name in one.metrics else "–"
            cells.append(Text(value + (_BEST if is_best else ""), "bold green" if is_best else ""))
        made.add_row(fmt.metric_name(name), *cells)
    made.add_row("minutes", *(fmt.minutes(one.milliminutes) for one in sides))
    made.add_row("took", *(fmt.span(one.elapsed_ms) for one in sides))
    made.add_row("rate", *(fmt.rate_short(one.job.rate_micros) for one in sides))
    return made


def _shown(name: str, value: Any) -> str:
    """A setting for people, from proto JSON."""
    if value is None:
        return "–"
    if name.endswith("batch_size") and value < 0:
        return "auto"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith(_ENUMS):
        prefix = next(one for one in _ENUMS if value.startswith(one))
        return value.removeprefix(prefix).replace("_", " ").lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(sides: Sequence[Side], settings: Mapping[str, list[Any]], best: Mapping[str, set[int]]) -> str:
    """Numbers that are none are null, as JSON has no others."""
    jobs = [
        {
            "job_id": one.job.job_id,
            "name": one.job.name,
            "state": fmt.label(pb.JobState, one.job.state, ""),
            "step": one.step,
            "metrics": {name: value if math.isfinite(value) else None for name, value in one.metrics.items()},
            "settings": {name: values[at] for name, values in settings.items()},
            "milliminutes": one.milliminutes,
            "elapsed_ms": one.elapsed_ms,
            "rate_micros": one.job.rate_micros,
        }
        for at, one in enumerate(sides)
    ]
    marked = {name: [sides[at].job.job_id for at in sorted(which)] for name, which in best.items()}
    return json.dumps({"jobs": jobs, "best": marked}, ensure_ascii=False, sort_keys=True, indent=2)
