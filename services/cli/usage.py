"""`tether usage`: compute minutes."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from protos.quota.v1 import quota_pb2 as pb
from services.cli import moment, pick, usage_charges, usage_explain, usage_rates
from services.cli.completion import job as complete_job
from services.cli.connection import connect, new_request_id
from services.cli.errors import CliError
from services.cli.feed import Source, follow
from services.cli.moment import At
from services.cli.output import console, error_console, print_json, to_json
from services.cli.parameters import AsJson, JobOption, Month
from services.cli.tables import table
from services.cli.usage_view import breakdown, exact, panel, plain, summary
from services.clock import PlatformClock
from services.words import format as fmt

# The replay reads the whole log of the workspace.
_VERIFY_DEADLINE_S = 300
_MAX_MINUTES = 10**12


class By(StrEnum):
    """What a month is broken down by."""

    DAY = "day"
    RUNNER = "runner"
    GPU = "gpu"
    JOB = "job"
    PERSON = "person"
    WORKFLOW = "workflow"


_GROUPINGS = {
    By.DAY: pb.USAGE_GROUPING_DAY,
    By.RUNNER: pb.USAGE_GROUPING_RUNNER,
    By.GPU: pb.USAGE_GROUPING_GPU_TYPE,
    By.JOB: pb.USAGE_GROUPING_JOB,
    By.PERSON: pb.USAGE_GROUPING_PERSON,
    By.WORKFLOW: pb.USAGE_GROUPING_WORKFLOW,
}


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(invoke_without_command=True)
    group.callback(
        epilog="Examples: tether usage --month 2026-11\n\ntether usage --by person\n\ntether usage --at '2h ago'"
    )(usage)
    group.command("watch", epilog="Example: tether usage watch")(watch)
    group.command("charges", epilog="Example: tether usage charges --month 2026-11")(usage_charges.charges)
    group.command("explain", epilog="Example: tether usage explain last")(usage_explain.explain)
    group.command("rates", epilog="Examples: tether usage rates\n\ntether usage rates --job last")(usage_rates.rates)
    group.command(
        "adjust",
        epilog='Example: tether usage adjust -12.5 --reason "the box hung" --job last',
        # Or else a refund would be taken for an option.
        context_settings={"ignore_unknown_options": True},
    )(adjust)
    group.command("verify", epilog="Example: tether usage verify")(verify)
    group.command("set", epilog="Example: tether usage set 600")(set_)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def usage(
    context: typer.Context,
    month: Month = "",
    by: Annotated[By | None, typer.Option("--by", help="Break the month down, with a bar a row.")] = None,
    at: At = "",
    as_json: AsJson = False,
) -> None:
    """Show the compute minutes of a month: used, running now, and the quota."""
    if context.invoked_subcommand is not None:
        return
    request = pb.GetUsageRequest(period=month)
    if by is not None:
        request.group_by = _GROUPINGS[by]
    if at:
        request.as_of.CopyFrom(moment.parse(at, PlatformClock().now_ms()))
    platform = connect(context)
    response = platform.quota.GetUsage(request)
    if as_json:
        print_json(response)
        return
    out = console()
    out.print(summary(response, as_of=bool(at)))
    if by is not None and response.rows:
        out.print()
        out.print(breakdown(response, by.value, platform))
    if not response.used_milliminutes and not response.running_jobs and not response.rows:
        out.print("[dim]Nothing was charged in this month. Run one: tether train DATASET ARCHITECTURE …[/]")


def watch(
    context: typer.Context,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.2, max=15, help="Seconds between two looks while trainings run.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Watch the minutes of this month being used up; Ctrl-C ends."""
    platform, out, aside = connect(context), console(), error_console()
    request = pb.WatchUsageRequest(interval_ms=round(interval_s * 1000))
    source: Source[pb.WatchUsageResponse] = Source("usage", lambda: platform.quota.WatchUsage(request))
    answers = follow(source, lambda: aside.print("reconnecting…"), lambda: aside.print("connected again"))
    usages = (answer.usage for answer in answers if answer.HasField("usage"))
    if as_json:
        for one in usages:
            print(to_json(one), flush=True)
    elif out.is_terminal:
        from rich.live import Live

        with Live(console=out, auto_refresh=False) as live:
            for one in usages:
                live.update(panel(one), refresh=True)
    else:
        said = ""
        for one in usages:
            line = plain(one)
            if line != said:
                print(f"{fmt.clock_time(one.as_of_ms)}  {line}", flush=True)
            said = line


def adjust(
    context: typer.Context,
    minutes: Annotated[str, typer.Argument(metavar="MINUTES", help="Compute minutes to add; a refund is negative.")],
    reason: Annotated[str, typer.Option(help="Why, for those who read it later; name no persons.", show_default=False)],
    job: JobOption = "",
    month: Month = "",
    as_json: AsJson = False,
) -> None:
    """Add minutes to a month, or take some off, with a reason that stays in the log (admins)."""
    milliminutes = _number(minutes)
    if not milliminutes:
        raise CliError(f"{minutes} minutes change nothing; write for example 30, or -12.5 for a refund")
    if not reason.strip():
        raise CliError("the reason is empty; say in a few words why the minutes are adjusted")
    platform = connect(context)
    job_id = pick.job_id(platform, job) if job else ""
    about = f" for {fmt.short_id(job_id)}" if job_id else ""
    what = f"{'+' if milliminutes > 0 else '−'}{fmt.minutes(abs(milliminutes))} minutes{about}"
    response = platform.quota.AdjustMinutes(
        pb.AdjustMinutesRequest(
            request_id=new_request_id(), period=month, milliminutes=milliminutes, reason=reason.strip(), job_id=job_id
        )
    )
    if as_json:
        print_json(response)
        return
    after = platform.quota.GetUsage(pb.GetUsageRequest(period=month, min_position=response.position))
    console().print(f"Adjusted by {what}, event #{response.position}. {after.period} now has ", end="")
    console().print(f"{fmt.minutes(after.used_milliminutes)} compute minutes.")


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
        request.quota_milliminutes = _number(minutes, ", or unlimited")
        if request.quota_milliminutes < 0:
            raise CliError(f"{minutes} is below zero; write the minutes of a month, for example 600, or unlimited")
    response = connect(context).quota.SetQuota(request)
    if as_json:
        print_json(response)
    elif minutes == "unlimited":
        console().print("The workspace may use compute minutes without limit.")
    else:
        console().print(f"The workspace may use {fmt.minutes(request.quota_milliminutes)} compute minutes a month.")


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
    made = table("job or month", "what", "replayed", "recorded", right=("replayed", "recorded"))
    for one in response.differences:
        numbers = ("", "") if one.what else (exact(one.replayed_ms_micros), exact(one.recorded_ms_micros))
        made.add_row(one.job_id or one.period, one.what or "minutes", *numbers)
    out.print(made)
    out.print("The log is the truth. Tell the platform's operator: the quota service rebuilds its tables from it.")


def _number(text: str, otherwise: str = "") -> int:
    """Minutes × 1000. Raises CliError."""
    try:
        value = float(text)
        milliminutes = round(value * 1000)
    except (ValueError, OverflowError):
        raise CliError(f"{text!r} is not a number of minutes; write for example 600{otherwise}") from None
    if abs(value) > _MAX_MINUTES:
        raise CliError(f"{text} minutes are more than anybody has; write for example 600{otherwise}")
    return milliminutes
