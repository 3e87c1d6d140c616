"""`tether jobs`: trainings that run, wait or are over."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from protos.scheduler.v1 import job_pb2 as pb
from protos.scheduler.v1.access_pb2 import WhoAmIRequest
from services.cli import (
    job_view,
    jobs_artifacts,
    jobs_compare,
    jobs_evaluation,
    jobs_logs,
    jobs_preview,
    jobs_resume,
    live,
    pick,
)
from services.cli.completion import architecture as complete_architecture
from services.cli.completion import dataset as complete_dataset
from services.cli.completion import runner as complete_runner
from services.cli.completion import workflow as complete_workflow
from services.cli.connection import Platform, connect, new_request_id
from services.cli.errors import NEEDS_AN_ANSWER, CliError
from services.cli.live_state import LiveState
from services.cli.moment import At, as_of_line, parse
from services.cli.output import console, print_json
from services.cli.parameters import AsJson, JobArgument, Yes
from services.cli.states import job_state
from services.cli.tables import table
from services.clock import PlatformClock
from services.words import format as fmt

_OVER = (pb.JOB_STATE_FINISHED, pb.JOB_STATE_FAILED, pb.JOB_STATE_KILLED)


class State(StrEnum):
    """A job's state, as it is typed."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command(
        "list",
        epilog="Examples: tether jobs list --state running\n\n"
        "tether jobs list --dataset digits --search baseline --by me",
    )(list_)
    group.command("show", epilog="Examples: tether jobs show last\n\ntether jobs show last --at '30m ago'")(show)
    group.command("watch", epilog="Example: tether jobs watch last")(watch)
    group.command("stop", epilog='Example: tether jobs stop last --reason "wrong dataset"')(stop)
    group.command("logs", epilog=jobs_logs.EXAMPLES)(jobs_logs.logs)
    jobs_resume.register(group)
    jobs_artifacts.register(group)
    jobs_evaluation.register(group)
    jobs_preview.register(group)
    jobs_compare.register(group)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def list_(
    context: typer.Context,
    state: Annotated[list[State] | None, typer.Option(help="Only these; may be repeated.")] = None,
    search: Annotated[str, typer.Option(help="Only those with this in their name, in whatever case; or an id.")] = "",
    runner: Annotated[str, typer.Option(help="Only of this runner, now or last.", autocompletion=complete_runner)] = "",
    dataset: Annotated[str, typer.Option(help="Only on this dataset.", autocompletion=complete_dataset)] = "",
    architecture: Annotated[str, typer.Option(help="Only of this one.", autocompletion=complete_architecture)] = "",
    workflow: Annotated[str, typer.Option(help="Only of this one.", autocompletion=complete_workflow)] = "",
    by: Annotated[str, typer.Option(metavar="me|TOKEN_ID", help="Only those that this token has submitted.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List trainings, newest first. Things are named by name or id; what is given must all fit."""
    platform = connect(context)
    states = [pb.JobState.Value(f"JOB_STATE_{one.name}") for one in state or []]
    request = pb.ListJobsRequest(
        states=states,
        search=search,
        runner_id=runner,
        dataset_id=dataset,
        architecture_id=architecture,
        workflow_id=workflow,
        submitted_by=_submitter(platform, by),
    )
    filtered = request.ByteSize() > 0
    request.page_size = limit
    response = platform.jobs.ListJobs(request)
    while response.next_page_token and len(response.jobs) < limit:
        # A search's page may be short: names are looked through piece by piece.
        request.page_token, request.page_size = response.next_page_token, limit - len(response.jobs)
        more = platform.jobs.ListJobs(request)
        response.jobs.extend(more.jobs)
        response.next_page_token = more.next_page_token
    if as_json:
        print_json(response)
        return
    if not response.jobs:
        words = "No job fits." if filtered else "There is no job yet."
        console().print(f"{words} Run one: tether train DATASET ARCHITECTURE --runner NAME")
        return
    console().print(_table(list(response.jobs), PlatformClock().now_ms()))
    if response.next_page_token:
        console().print(f"[dim]… and older ones; see more with --limit {min(limit * 5, 1000)}[/]")


def _submitter(platform: Platform, by: str) -> str:
    """`token:<id>`; what a person does on the page is done by his token."""
    if by == "me":
        return f"token:{platform.access.WhoAmI(WhoAmIRequest()).subject_id}"
    return f"token:{by}" if by.startswith("tok_") else by


def show(context: typer.Context, job: JobArgument, at: At = "", as_json: AsJson = False) -> None:
    """Show one training: settings, outcome, checkpoints, evaluation, advice, events, cost; now or as it was."""
    platform, now_ms = connect(context), PlatformClock().now_ms()
    as_of = parse(at, now_ms) if at else None
    response = platform.jobs.GetJob(pb.GetJobRequest(job_id=pick.job_id(platform, job), as_of=as_of))
    if as_json:
        print(jobs_evaluation.whole(platform, response.job, past=as_of is not None))
        return
    if as_of is not None:
        console().print(as_of_line(response.as_of_position, response.as_of_ms))
        now_ms = response.as_of_ms
    console().print(job_view.details(platform, response.job, now_ms, response.as_of_position))


def watch(context: typer.Context, job: JobArgument, as_json: AsJson = False) -> None:
    """Watch a training live until it ends. Ctrl-C stops watching, not the training. --json prints the job at its end.

    The exit code is 0 only if the training finished.
    """
    platform = connect(context)
    over = live.watch(platform, pick.job(platform, job), quiet=as_json)
    if as_json:
        print_json(over)
    raise typer.Exit(live.exit_code(over))


def stop(
    context: typer.Context,
    job: JobArgument,
    reason: Annotated[str, typer.Option(help="For the people who read it later.")] = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Stop a training: it saves a checkpoint and ends. One that waits is taken out of the queue. Asks first."""
    platform = connect(context)
    found = pick.job(platform, job)
    if not yes and found.state not in _OVER:
        if not sys.stdin.isatty():
            raise CliError(NEEDS_AN_ANSWER)
        state = fmt.label(pb.JobState, found.state, "JOB_STATE_")
        if not typer.confirm(f"Stop “{found.name}” ({fmt.short_id(found.job_id)}, {state})?", err=True):
            raise CliError("nothing was changed; the training goes on")
    response = platform.jobs.StopJob(pb.StopJobRequest(request_id=new_request_id(), job_id=found.job_id, reason=reason))
    if as_json:
        print_json(response)
        return
    console().print(job_state(response.job, PlatformClock().now_ms()) + Text(f"  {response.job.name}", "bold"))
    if response.job.state == pb.JOB_STATE_STOPPING:
        console().print("It saves a checkpoint and ends within 30 s of hearing it; this time is free of charge.")


def _table(jobs: list[pb.Job], now_ms: int) -> Table:
    # One metric for all, as is usual, goes into the heading.
    best = {fmt.best_metric(job.metrics)[0] for job in jobs if job.metrics}
    heading = best.pop() if len(best) == 1 else ""
    right = ("minutes", heading) if heading else ("minutes",)
    keep = ("id", "state", "result", "submitted")
    made = table("id", "name", "state", "runner", heading or "result", "minutes", "submitted", right=right, keep=keep)
    for job in jobs:
        state = LiveState(job)
        metric, value = fmt.best_metric(job.metrics)
        made.add_row(
            fmt.short_id(job.job_id),
            Text(job.name, "bold"),
            job_state(job, now_ms, why=False),
            Text(job.runner_name).append(" simulated" if job.simulated else "", "yellow"),
            value if heading else f"{metric} {value}",
            fmt.minutes(state.charged_milliminutes(now_ms)) if state.elapsed_ms(now_ms) else "",
            fmt.ago(job.submitted_at_ms, now_ms),
        )
    return made
