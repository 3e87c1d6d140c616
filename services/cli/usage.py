"""`tether usage`: compute minutes."""

from typing import Annotated

import typer
from rich.text import Text

from protos.quota.v1 import quota_pb2 as pb
from services.cli import format as fmt
from services.cli import pick
from services.cli.completion import job as complete_job
from services.cli.connection import connect, new_request_id
from services.cli.errors import CliError
from services.cli.output import console, error_console, print_json
from services.cli.parameters import AsJson, Month
from services.cli.tables import facts, table
from services.cli.words import reason

_BAR_WIDTH = 40
_NEARLY, _FULL = 0.75, 0.9
# The replay reads the whole log of the workspace.
_VERIFY_DEADLINE_S = 300


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(invoke_without_command=True)
    group.callback(epilog="Example: tether usage --month 2026-11")(usage)
    group.command("charges", epilog="Example: tether usage charges")(charges)
    group.command("verify", epilog="Example: tether usage verify")(verify)
    group.command("set", epilog="Example: tether usage set 600")(set_)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def usage(context: typer.Context, month: Month = "", as_json: AsJson = False) -> None:
    """Show the compute minutes of a month: used, running now, and the quota."""
    if context.invoked_subcommand is not None:
        return
    response = connect(context).quota.GetUsage(pb.GetUsageRequest(period=month))
    if as_json:
        print_json(response)
        return
    rows: list[tuple[str, str | Text]] = [("month", f"{response.period} (UTC)"), ("used", _used(response))]
    if response.HasField("quota_milliminutes"):
        rows.append(("", _bar(response.used_milliminutes, response.quota_milliminutes)))
    if response.running_jobs:
        running = f"{fmt.minutes(response.running_milliminutes)} so far by {response.running_jobs} training(s)"
        rows.append(("running", Text(f"● {running}", "green")))
    if response.exhausted:
        rows.append(("", Text("used up: no training starts before the next month or a larger quota", "bold red")))
    console().print(facts(*rows))
    if not response.used_milliminutes and not response.running_jobs:
        console().print("[dim]Nothing was charged in this month. Run one: tether train DATASET ARCHITECTURE …[/]")


def charges(
    context: typer.Context,
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="Only charged in this month; default: all.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many jobs, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what each training cost, and why."""
    response = connect(context).quota.ListCharges(pb.ListChargesRequest(period=month, page_size=limit))
    if as_json:
        print_json(response)
        return
    if not response.charges:
        console().print("Nothing was charged yet. Minutes count from the start of a training process.")
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
    console().print(made)
    if any(attempt.interval.presumed for charge in response.charges for attempt in charge.attempts):
        console().print("[dim]? presumed: its box was not heard of again; the truth replaces it when it speaks.[/]")


def verify(
    context: typer.Context,
    job: Annotated[str, typer.Option(help="Only this job.", autocompletion=complete_job)] = "",
    as_json: AsJson = False,
) -> None:
    """Recompute the minutes from the event log and compare. The exit code is 0 only if all of them are equal."""
    platform = connect(context)
    job_id = pick.job_id(platform, job) if job else ""
    with error_console().status("Replaying the event log…"):
        response = platform.quota.VerifyUsage(pb.VerifyUsageRequest(job_id=job_id), timeout=_VERIFY_DEADLINE_S)
    if as_json:
        print_json(response)
    else:
        _verdict(response)
    if not response.equal:
        raise typer.Exit(1)


def set_(
    context: typer.Context,
    minutes: Annotated[str, typer.Argument(metavar="MINUTES|unlimited", help="Compute minutes a calendar month.")],
    as_json: AsJson = False,
) -> None:
    """Set the compute minutes that the workspace may use in a month (admins)."""
    request = pb.SetQuotaRequest(request_id=new_request_id())
    if minutes != "unlimited":
        request.quota_milliminutes = _milliminutes(minutes)
    response = connect(context).quota.SetQuota(request)
    if as_json:
        print_json(response)
    elif minutes == "unlimited":
        console().print("The workspace may use compute minutes without limit.")
    else:
        console().print(f"The workspace may use {fmt.minutes(request.quota_milliminutes)} compute minutes a month.")


def _used(response: pb.GetUsageResponse) -> Text:
    text = Text(fmt.minutes(response.used_milliminutes), "bold")
    if response.HasField("quota_milliminutes"):
        return text.append(f" of {fmt.minutes(response.quota_milliminutes)} compute minutes", "not bold")
    return text.append(" compute minutes, without a limit", "not bold")


def _bar(used: int, quota: int) -> Text:
    share = used / quota if quota else 1.0
    colour = "red" if share >= _FULL else "yellow" if share >= _NEARLY else "green"
    drawn = fmt.bar(share, _BAR_WIDTH)
    return Text(drawn, colour).append("░" * (_BAR_WIDTH - len(drawn)), "dim").append(f" {share:.0%}")


def _end(attempt: pb.ChargedAttempt) -> str:
    if not attempt.ended_position:
        return "running"
    return reason(attempt.reason) or "finished"


def _verdict(response: pb.VerifyUsageResponse) -> None:
    out = console()
    replayed = (
        f"{response.events_replayed:,} events about minutes of {response.jobs:,} job(s), up to #{response.position:,}"
    )
    if response.equal:
        minutes = fmt.minutes(response.replayed_milliminutes)
        out.print(Text("✔ equal", "bold green").append(f"  {minutes} compute minutes; {replayed}", "not bold default"))
        return
    out.print(Text("✘ different", "bold red").append(f"  {replayed}", "not bold default"))
    made = table("job or month", "replayed", "recorded", right=("replayed", "recorded"))
    for one in response.differences:
        made.add_row(one.job_id or one.period, _exact(one.replayed_ms_micros), _exact(one.recorded_ms_micros))
    out.print(made)
    out.print("The log is the truth. Tell the platform's operator: the quota service rebuilds its tables from it.")


def _exact(ms_micros: int) -> str:
    return f"{ms_micros / 60_000_000_000:,.6f}"


def _milliminutes(text: str) -> int:
    try:
        value = round(float(text) * 1000)
    except (ValueError, OverflowError):
        raise CliError(f"{text!r} is not a number of minutes; write for example 600, or unlimited") from None
    if value < 0:
        raise CliError(f"{text} is below zero; write the minutes of a month, for example 600, or unlimited")
    return value
