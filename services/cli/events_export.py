"""`tether events export`: the log as files."""

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NamedTuple

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from services.cli import moment, pick
from services.cli.completion import job as complete_job
from services.cli.connection import Platform, connect
from services.cli.errors import CliError
from services.cli.output import console, error_console
from services.clock import PlatformClock
from services.words import format as fmt

EXAMPLES = (
    "Examples: tether events export --out log\n\n"
    "tether events export --out november --since 2026-11-01 --until 2026-12-01 --type JobFinished --format csv\n\n"
    "The same command again goes on where the last one ended: after new events, Ctrl-C, or a power cut."
)

_TIME = "TIME: `2h ago`, `2026-11-22 14:00` (your local time; ISO 8601 with an offset or Z as it says)."

From = Annotated[int, typer.Option("--from", min=0, show_default=False, metavar="POSITION", help="Begin here.")]
To = Annotated[
    int, typer.Option("--to", min=0, show_default=False, metavar="POSITION", help="Read up to here and end.")
]
Since = Annotated[str, typer.Option(metavar="TIME", show_default=False, help=f"Only recorded then or later. {_TIME}")]
Until = Annotated[str, typer.Option(metavar="TIME", show_default=False, help="Only recorded before then, and end.")]
Types = Annotated[list[str] | None, typer.Option("--type", metavar="NAME", help="Only such events; may be repeated.")]

# As services.client.export.FORMATS; that module is loaded only when it is needed.
_FORMATS = ("parquet", "jsonl", "csv")


class Positions(NamedTuple):
    """What positions and moments come to: from `first` to `last`, both included; `last` may be below `first`."""

    first: int
    last: int
    head: int


def export(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder, or one of an earlier export.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="parquet|jsonl|csv",
            help="parquet: typed columns, a table for each event type; jsonl: one document a line, all types in order; "
            "csv: a table for each event type, nested values as JSON.",
        ),
    ] = "parquet",
    first: From = 0,
    last: To = 0,
    since: Since = "",
    until: Until = "",
    types: Types = None,
    job: Annotated[str, typer.Option(help="Only of this job.", autocompletion=complete_job)] = "",
    workspace: Annotated[str, typer.Option(metavar="ID", help="Only this workspace (operators).")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what the folder holds as one JSON document.")] = False,
) -> None:
    """Write the log to files, in constant memory. Goes on with the export that is in DIR already."""
    if format_ not in _FORMATS:
        raise CliError(f"--format {format_!r} is none of {', '.join(_FORMATS)}")
    # They load much, which no other command needs.
    from services.client import manifest as manifests
    from services.client.export import export as run
    from services.client.log import Log
    from services.client.manifest import Selection

    platform = connect(context)
    job_id = pick.job_id(platform, job) if job else ""
    chosen = positions(platform, first, last, since, until)
    selection = Selection(
        format_, tuple(sorted(set(types or []))), workspace, "job" if job_id else "", job_id, chosen.first
    )
    # Millions of small objects that die young, as in the servers: fewer walks over all others are a fifth of the speed.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    with watched() as watch:
        made = run(Log(platform), out, selection, chosen.last, watch.tell, watch.stopping)
    if as_json:
        print((out / manifests.NAME).read_text())
    else:
        kinds = len({part.kind for part in made.parts})
        of_types = "" if format_ == "jsonl" else f" of {fmt.count(kinds, 'type')}"
        found = f"{fmt.count(made.events, 'event')}{of_types} up to #{made.position:,}"
        console().print(f"{found} in {escape(str(out))} ({format_})")
    if watch.stopping():
        error_console().print("stopped; the same command goes on from here")
        raise typer.Exit(130)


def positions(platform: Platform, first: int, last: int, since: str, until: str) -> Positions:
    """The range that the options name, as the head is now. Raises CliError where it runs backwards."""
    from services.client.log import Log

    log = Log(platform)
    head = log.head().position
    begin, end = max(first, 1), min(last or head, head)
    if last and last < begin:
        raise CliError(f"--to {last} is before --from {begin}; give them the other way round")
    since_ms, until_ms = _ms("--since", since), _ms("--until", until)
    if since_ms and until_ms and until_ms <= since_ms:
        raise CliError(f"--until {until} is not after --since {since}; give them the other way round")
    if since_ms:
        begin = max(begin, log.position_before(since_ms) + 1)
    if until_ms:
        end = min(end, log.position_before(until_ms))
    return Positions(begin, end, head)


def _ms(option: str, text: str) -> int:
    if not text:
        return 0
    at = moment.parse(text, PlatformClock().now_ms())
    if at.WhichOneof("moment") != "at_ms":
        raise CliError(f"{option} is a time; for a position there are --from and --to")
    return at.at_ms


class Watch:
    """What a person sees of an export, and his Ctrl-C: the first one ends it well, the second at once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("events", total=None, found="")
        self._stopping = False

    def stopping(self) -> bool:
        return self._stopping

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True

    def tell(self, told: "object") -> None:
        """Takes a services.client.export.Progress."""
        from services.client.export import Progress as Told

        assert isinstance(told, Told)
        total = max(told.last - told.first + 1, 1)
        done = told.scanned - told.first + 1
        self._progress.update(self._task, total=total, completed=done, found=fmt.count(told.events, "event"))


@contextmanager
def watched() -> Iterator[Watch]:
    """A progress bar on a terminal, nothing in a pipe."""
    aside = error_console()
    columns = (SpinnerColumn(), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[found]}"))
    with Progress(*columns, TimeRemainingColumn(), console=aside, disable=not aside.is_terminal, transient=True) as bar:
        watch = Watch(bar)
        before = signal.signal(signal.SIGINT, watch.stop)
        try:
            yield watch
        finally:
            signal.signal(signal.SIGINT, before)
