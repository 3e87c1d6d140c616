"""`tether events`: the log of everything that happened, read along or back."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from protos.eventlog.v1 import eventlog_pb2 as pb
from services.cli import events_export, events_sql, pick
from services.cli.completion import job as complete_job
from services.cli.connection import Platform, connect
from services.cli.events_export import From, Since, To, Types, Until, positions
from services.cli.feed import Source, follow
from services.cli.output import console, error_console, to_json
from services.words import format as fmt
from services.words.events import sentence

# So that the tail does not begin with an empty screen.
_CONTEXT = 20

_STYLES = {
    "JobFinished": "green",
    "JobFailed": "red",
    "JobKilled": "magenta",
    "JobUnreachable": "yellow",
    "RunnerDisconnected": "yellow",
    "QuotaThresholdReached": "yellow",
    "QuotaExhausted": "red",
}


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(invoke_without_command=True)
    group.callback(
        epilog="Examples: tether events\n\ntether events --from 1 --no-follow\n\n"
        "tether events --since '2h ago' --type JobKilled\n\n"
        "tether events --newest 10 --type JobFailed\n\n"
        "tether events --job last --type CheckpointSaved --json",
    )(events)
    group.command("export", epilog=events_export.EXAMPLES)(events_export.export)
    group.command("sql", epilog=events_sql.EXAMPLES)(events_sql.sql)
    app.add_typer(
        group,
        name=name,
        help="Follow everything that happens, as it happens. Starts with the last events; Ctrl-C ends. With --to, "
        "--until or --no-follow it ends by itself.",
        short_help=help_,
        rich_help_panel=panel,
    )


def events(
    context: typer.Context,
    first: From = 0,
    last: To = 0,
    since: Since = "",
    until: Until = "",
    types: Types = None,
    job: Annotated[str, typer.Option(help="Only of this job.", autocompletion=complete_job)] = "",
    newest: Annotated[int, typer.Option(metavar="N", help="Only the newest N that fit, and no following.")] = 0,
    follow_on: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on with what comes.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    platform = connect(context)
    wanted = pb.EventFilter(types=types or [])
    if job:
        wanted.stream_kind, wanted.stream_id = "job", pick.job_id(platform, job)
    records: Iterator[pb.EventRecord]
    chosen = positions(platform, first, last, since, until)
    if last or until or newest or not follow_on:
        request = pb.ReadEventsRequest(
            from_position=chosen.first, to_position=chosen.last, filter=wanted, newest=newest
        )
        records = iter(())
        if chosen.first <= chosen.last:
            records = _newest(platform, request) if newest else _read(platform, request)
    else:
        head = chosen.head
        # One job's events are few: all of them are its context.
        context_first = 1 if job else max(head - _CONTEXT + 1, 1)
        records = _tail(platform, chosen.first if first or since else context_first, wanted)
        if not head:
            error_console().print("[dim]The log is empty; waiting for the first event. Ctrl-C ends.[/]")
    out, any_record = console(), False
    for record in records:
        any_record = True
        if as_json:
            print(to_json(record), flush=True)
        else:
            out.print(_line(record), soft_wrap=not out.is_terminal)
    if not any_record:
        error_console().print("[dim]No event in this range fits.[/]")


def _read(platform: Platform, request: pb.ReadEventsRequest) -> Iterator[pb.EventRecord]:
    return (record for page in platform.eventlog.ReadEvents(request) for record in page.events)


def _newest(platform: Platform, request: pb.ReadEventsRequest) -> Iterator[pb.EventRecord]:
    """As many as are asked for, in position order; the platform looks for them piece by piece, from the end."""
    found: list[pb.EventRecord] = []
    wanted = request.newest
    while True:
        pages = list(platform.eventlog.ReadEvents(request))
        found[:0] = [record for page in pages for record in page.events]
        request.newest, request.to_position = wanted - len(found), pages[0].scanned_position
        if not request.newest or request.to_position < request.from_position:
            return iter(found)


def _tail(platform: Platform, first: int, wanted: pb.EventFilter) -> Iterator[pb.EventRecord]:
    """Events from a position on, without end; goes on after an interruption where it was."""
    position, aside = first, error_console()

    def open_() -> object:
        return platform.eventlog.TailEvents(pb.TailEventsRequest(from_position=position, filter=wanted))

    source: Source[pb.TailEventsResponse] = Source("events", open_)
    for response in follow(source, lambda: aside.print("reconnecting…"), lambda: aside.print("connected again")):
        for record in response.events:
            if record.position >= position:
                yield record
                position = record.position + 1
        position = max(position, response.scanned_position + 1)


def _line(record: pb.EventRecord) -> Text:
    at = fmt.clock_time(record.recorded_at_us // 1000)
    text = Text(f"{record.position:>6}  {at}  ", "dim")
    text.append(f"{fmt.short_id(record.stream_id):<11}  ", "dim")
    text.append(record.type, _STYLES.get(record.type, "bold"))
    return text.append(f"  {sentence(record)}", "default")
