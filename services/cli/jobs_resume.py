"""`tether jobs resume` and `tether jobs checkpoints`: what a training has left, and how to go on from it."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from protos.scheduler.v1 import job_pb2 as pb
from protos.scheduler.v1.runner_pb2 import ListRunnersRequest
from protos.training.v1.training_pb2 import Checkpoint, Limits
from services.cli import completion, pick
from services.cli.connection import Platform, connect, new_request_id
from services.cli.errors import CliError
from services.cli.following import OUTPUT, Following
from services.cli.output import console, print_json
from services.cli.parameters import AsJson, JobArgument, spread
from services.cli.tables import table
from services.words import format as fmt

_WHERE, _LENGTH = "Where", "How long, from the first step of the earlier job (default: as that one)"
_PLATFORM = "platform"


def register(group: typer.Typer) -> None:
    group.command("resume", epilog="Example: tether jobs resume last --epochs 40")(spread(resume))
    group.command("checkpoints", epilog="Example: tether jobs checkpoints last")(checkpoints)


def resume(
    context: typer.Context,
    *,
    job: JobArgument,
    checkpoint: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Default: the newest.", autocompletion=completion.checkpoint, show_default=False
        ),
    ] = "",
    runner: Annotated[
        str,
        typer.Option(
            "--runner",
            "-r",
            help="Default: the one on whose box the checkpoint lies; any where that box has gone.",
            autocompletion=completion.runner,
            rich_help_panel=_WHERE,
            show_default=False,
        ),
    ] = "",
    any_runner: Annotated[
        bool, typer.Option("--any", help="Any runner that can read the checkpoint.", rich_help_panel=_WHERE)
    ] = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="Wait where it is not free, up to 24 h.", rich_help_panel=_WHERE)
    ] = False,
    epochs: Annotated[int, typer.Option(help="End after this many.", rich_help_panel=_LENGTH, show_default=False)] = 0,
    steps: Annotated[int, typer.Option(help="End after this many.", rich_help_panel=_LENGTH, show_default=False)] = 0,
    minutes: Annotated[int, typer.Option(help="End after this many.", rich_help_panel=_LENGTH, show_default=False)] = 0,
    patience: Annotated[
        int | None,
        typer.Option(
            help="End after so many evaluations without improvement; 0: never for that.",
            rich_help_panel=_LENGTH,
            show_default=False,
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Go on from the last checkpoint, up to so often, where the box lets it down.",
            rich_help_panel=_LENGTH,
            show_default=False,
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Default: the earlier job's.", rich_help_panel=OUTPUT)] = "",
    following: Following,
) -> None:
    """Go on from a checkpoint of a training that is over, as a new job with its settings, and watch it live.

    The exit code is 0 only if the training finished. What the earlier job has trained is not charged again.
    """
    if runner and any_runner:
        raise CliError("--runner names one runner and --any leaves the choice open; give one of them")
    platform = connect(context)
    earlier = pick.job(platform, job)
    answer = platform.jobs.ResumeJob(
        pb.ResumeJobRequest(
            request_id=new_request_id(),
            job_id=earlier.job_id,
            checkpoint=checkpoint,
            name=name,
            runner_id=runner or ("" if any_runner else _holder(platform, earlier, checkpoint)),
            queue=queue,
            limits=_limits(earlier.spec.limits, Limits(epochs=epochs, steps=steps, minutes=minutes), patience, retries),
        )
    )
    following.follow(platform, answer.job)


def checkpoints(context: typer.Context, job: JobArgument, as_json: AsJson = False) -> None:
    """List what a training has saved, oldest first, and where each lies: on its box, on the platform."""
    found = pick.job(connect(context), job)
    if as_json:
        print_json(pb.Job(job_id=found.job_id, name=found.name, checkpoints=found.checkpoints))
        return
    if not found.checkpoints:
        console().print(f"{escape(found.name)} has saved no checkpoint; it saves one after an evaluation.")
        return
    made = table("name", "step", "epoch", "metrics", "size", "lies on", right=("step", "epoch", "size"), keep=("name",))
    for one in found.checkpoints:
        metrics = Text(fmt.metrics(one.metrics)).append("  best" if one.best else "", "green")
        made.add_row(one.name, f"{one.step:,}", str(one.epoch), metrics, fmt.size(one.bytes), places(found, one))
    console().print(made)
    console().print(f"[dim]Go on from one: tether jobs resume {fmt.short_id(found.job_id)} --checkpoint NAME[/]")


def places(job: pb.Job, checkpoint: Checkpoint) -> str:
    """`box-1, platform`."""
    names = {one.attempt_id: one.runner_name for one in job.earlier_attempts}
    names[job.attempt_id] = job.runner_name
    box = names.get(checkpoint.attempt_id, checkpoint.runner_id)
    return ", ".join(place for place in (box, _PLATFORM if checkpoint.artifact_id else "") if place)


def _holder(platform: Platform, job: pb.Job, name: str) -> str:
    """Id of the runner on whose box the checkpoint lies; empty where the platform has to choose one, or say why not."""
    wanted = [one for one in job.checkpoints if not name or one.name == name]
    if not wanted:
        return ""
    holder = wanted[-1].runner_id
    # Of a box that has left the platform nothing can be read.
    runners = platform.runners.ListRunners(ListRunnersRequest()).runners
    return holder if any(runner.runner_id == holder for runner in runners) else ""


def _limits(earlier: Limits, ends: Limits, patience: int | None, retries: int | None) -> Limits | None:
    """The earlier job's with what was given replaced; an end that is given replaces all ends. None: nothing is new."""
    chosen = Limits()
    chosen.CopyFrom(earlier)
    if ends.epochs or ends.steps or ends.minutes:
        chosen.epochs, chosen.steps, chosen.minutes = ends.epochs, ends.steps, ends.minutes
    if patience is not None:
        chosen.early_stopping_patience = patience
    if retries is not None:
        chosen.retries = retries
    return chosen if chosen != earlier else None
