"""`tether metrics`: the curves of a training."""

import shutil
from typing import Annotated

import typer
from rich.text import Text

from protos.metrics.v1 import metrics_pb2 as pb
from services.cli import completion, metrics_export, pick
from services.cli.chart import Line, chart
from services.cli.connection import connect
from services.cli.errors import CliError
from services.cli.output import console, print_json
from services.cli.parameters import AsJson, JobArgument
from services.cli.tables import table
from services.words import format as fmt

_HEIGHT = 14
# A braille column holds two points; more would only be drawn over each other.
_POINTS = 400
_NOTHING = "This training has reported no metrics yet. Watch it: tether jobs watch {}"


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command("list", epilog="Example: tether metrics list last")(list_)
    group.command("show", epilog="Example: tether metrics show last train/loss validation/accuracy")(show)
    group.command("export", epilog=metrics_export.EXAMPLES)(metrics_export.export)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def list_(context: typer.Context, job: JobArgument, as_json: AsJson = False) -> None:
    """List the series of a training with their last values."""
    platform = connect(context)
    job_id = pick.job_id(platform, job)
    response = platform.metrics.ListSeries(pb.ListSeriesRequest(job_id=job_id))
    if as_json:
        print_json(response)
        return
    if not response.series:
        _say_nothing(job_id, response.removed_at_ms)
        _tell_refusals(response)
        return
    made = table("series", "points", "first", "last", "last value", right=("points", "first", "last", "last value"))
    for one in response.series:
        value = Text(fmt.measured(one.name, one.last_value), "bold")
        made.add_row(Text(one.name), f"{one.points:,}", f"{one.first_step:,}", f"{one.last_step:,}", value)
    console().print(made)
    _tell_refusals(response)


def _say_nothing(job_id: str, removed_at_ms: int) -> None:
    if removed_at_ms:
        console().print(
            f"The metrics of this training were removed on {fmt.moment(removed_at_ms)}: their time was over."
        )
    else:
        console().print(_NOTHING.format(fmt.short_id(job_id)))


def _tell_refusals(response: pb.ListSeriesResponse) -> None:
    for words in refusals(response):
        console().print(Text(words, "yellow"))


def refusals(response: pb.ListSeriesResponse) -> list[str]:
    """What the platform would not take of a training, a sentence each; the training itself was not held up."""
    return [f"{fmt.count(one.count, 'value')} refused, {one.reason}" for one in response.refused]


def show(
    context: typer.Context,
    job: JobArgument,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Series; default: losses and validation metrics.",
            autocompletion=completion.series,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw series as charts over the optimiser steps."""
    platform = connect(context)
    job_id = pick.job_id(platform, job)
    request = pb.QueryMetricsRequest(job_id=job_id, names=names or [], max_points=_POINTS)
    response = platform.metrics.QueryMetrics(request)
    if as_json:
        print_json(response)
        return
    missing = sorted(set(names or []) - {one.name for one in response.series})
    if missing:
        there = ", ".join(one.name for one in platform.metrics.ListSeries(pb.ListSeriesRequest(job_id=job_id)).series)
        raise CliError(f"this training has no series {', '.join(missing)}; it has {there or 'none yet'}")
    shown = [one for one in response.series if names or _interesting(one.name)]
    if not shown:
        listed = platform.metrics.ListSeries(pb.ListSeriesRequest(job_id=job_id))
        _say_nothing(job_id, listed.removed_at_ms)
        return
    width = min(shutil.get_terminal_size().columns, 120)
    for one in shown:
        _draw(one, width)


def _interesting(name: str) -> bool:
    return name.startswith("validation/") or name == "train/loss"


def _draw(series: pb.Series, width: int) -> None:
    out = console()
    drawn = chart(Line(series.steps, series.values), width, _HEIGHT)
    last = fmt.measured(series.name, series.values[-1])
    out.print(Text(f"\n{series.name}  ", "bold") + Text(f"{last} at step {series.steps[-1]:,}", "dim"))
    if drawn:
        out.print(Text(drawn, "cyan", no_wrap=True))
    else:
        out.print(Text("no value of it is a number; the training has probably diverged", "red"))
