"""`tether usage charges`: one row a job."""

from typing import Annotated

import typer
from rich.text import Text

from protos.quota.v1 import quota_pb2 as pb
from services.cli import pick
from services.cli.connection import connect
from services.cli.output import console, print_json
from services.cli.parameters import AsJson, JobOption
from services.cli.tables import table
from services.words import format as fmt
from services.words.events import reason


def charges(
    context: typer.Context,
    month: Annotated[
        str, typer.Option("--month", "--period", metavar="YYYY-MM", help="Only charged in this month; default: all.")
    ] = "",
    job: JobOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Jobs a page, newest first.")] = 20,
    page: Annotated[str, typer.Option(metavar="TOKEN", help="The page that the one before names at its end.")] = "",
    as_json: AsJson = False,
) -> None:
    """List what each training cost, and why."""
    platform = connect(context)
    job_id = pick.job_id(platform, job) if job else ""
    request = pb.ListChargesRequest(period=month, job_id=job_id, page_size=limit, page_token=page)
    response = platform.quota.ListCharges(request)
    if as_json:
        print_json(response)
        return
    out = console()
    if not response.charges:
        where = f" in {month}" if month else " yet"
        out.print(f"Nothing was charged{where}. Minutes count from the start of a training process.")
        return
    headings = ("job", "name", "minutes", "ran", "rate", "runner", "ended", "events")
    made = table(*headings, right=("minutes", "ran"), keep=("job",))
    for charge in response.charges:
        for index, attempt in enumerate(charge.attempts):
            interval = attempt.interval
            ran_ms = interval.charged_until_ms - interval.started_at_ms if interval.started_at_ms else 0
            made.add_row(
                fmt.short_id(charge.job_id) if not index else "",
                Text(charge.job_name if not index else "", "bold"),
                Text(fmt.minutes(charge.milliminutes) if not index else "", "bold"),
                fmt.span(ran_ms) + ("?" if interval.presumed else ""),
                fmt.rate_short(attempt.rate_micros),
                Text(attempt.runner_name).append(" simulated" if attempt.simulated else "", "yellow"),
                _end(attempt),
                Text(f"#{attempt.assigned_position}–{attempt.ended_position or ''}", "dim"),
            )
    out.print(made)
    if any(attempt.interval.presumed for charge in response.charges for attempt in charge.attempts):
        out.print("[dim]? presumed: its box was not heard of again; the truth replaces it when it speaks.[/]")
    if response.next_page_token:
        options = "".join(f" {name} {value}" for name, value in (("--month", month), ("--job", job)) if value)
        size = f" --limit {limit}" if limit != 20 else ""
        out.print(Text(f"More: tether usage charges{options}{size} --page {response.next_page_token}", "dim"))


def _end(attempt: pb.ChargedAttempt) -> str:
    if not attempt.ended_position:
        return "running" if attempt.interval.started_at_ms else "not started"
    return reason(attempt.reason) or "finished"
