"""`tether metrics export`: every point of a training, as a file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from protos.metrics.v1 import metrics_pb2 as pb
from services.cli import completion, pick
from services.cli.connection import connect
from services.cli.errors import CliError
from services.cli.output import console, error_console
from services.cli.parameters import JobArgument
from services.words import format as fmt

EXAMPLES = (
    "Examples: tether metrics export last\n\n"
    "tether metrics export last --output loss.parquet --series train/loss --series validation/loss\n\n"
    "tether metrics export last --format csv --force"
)

# As services.client.points.FORMATS; that module is loaded only when it is needed.
_FORMATS = ("parquet", "csv")


def export(
    context: typer.Context,
    job: JobArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Default: metrics-JOB.FORMAT, here."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--series", metavar="NAME", help="Only this; repeatable.", autocompletion=completion.series),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="parquet|csv", help="parquet: typed columns; csv: times in Unix milliseconds."
        ),
    ] = "parquet",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON document.")] = False,
) -> None:
    """Write every point to a file: job_id, attempt_id, series, step, value, at. None is left out or averaged.

    The points of each attempt are in the order in which they arrived; those that a later attempt made again are in it
    under the attempt that made them first, too.
    """
    if format_ not in _FORMATS:
        raise CliError(f"--format {format_!r} is none of {', '.join(_FORMATS)}")
    platform = connect(context)
    job_id = pick.job_id(platform, job)
    path = output or Path(f"metrics-{fmt.short_id(job_id)}.{format_}")
    if path.is_dir():
        raise CliError(f"{path} is a folder; name a file in it: --output {path / f'metrics.{format_}'}")
    if path.exists() and not force:
        raise CliError(f"{path} is there already; choose another --output, or replace it with --force")
    listed = platform.metrics.ListSeries(pb.ListSeriesRequest(job_id=job_id))
    expected = _expected(listed, names or [])
    # It loads much, which no other command needs.
    from services.client.points import write_points

    request = pb.ReadPointsRequest(job_id=job_id, names=names or [])
    try:
        with _progress(expected) as tell:
            written = write_points(iter(platform.metrics.ReadPoints(request)), job_id, path, format_, tell)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror or error}") from None
    if as_json:
        import json

        print(json.dumps({"file": str(path), "format": format_, "job_id": job_id, "points": written}))
    else:
        console().print(f"{fmt.count(written, 'point')} in {escape(str(path))} ({fmt.size(path.stat().st_size)})")


def _expected(listed: pb.ListSeriesResponse, names: Sequence[str]) -> int:
    """How many points there are now. Raises CliError where there is nothing to export."""
    if listed.removed_at_ms and not listed.series:
        raise CliError(f"the metrics of this training were removed on {fmt.moment(listed.removed_at_ms)}")
    if not listed.series:
        raise CliError("this training has reported no metrics yet")
    known = {one.name: one.points for one in listed.series}
    if missing := sorted(set(names) - known.keys()):
        raise CliError(f"this training has no series {', '.join(missing)}; it has {', '.join(known)}")
    return sum(points for name, points in known.items() if not names or name in names)


@contextmanager
def _progress(expected: int) -> Iterator["Tell"]:
    """A progress bar on a terminal, nothing in a pipe."""
    aside = error_console()
    columns = (SpinnerColumn(), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[found]}"))
    with Progress(*columns, TimeRemainingColumn(), console=aside, disable=not aside.is_terminal, transient=True) as bar:
        yield Tell(bar, expected)


class Tell:
    """Moves the bar."""

    def __init__(self, bar: Progress, expected: int) -> None:
        self._bar, self._task = bar, bar.add_task("points", total=max(expected, 1), found="")

    def __call__(self, written: int) -> None:
        self._bar.update(self._task, completed=written, found=fmt.count(written, "point"))
