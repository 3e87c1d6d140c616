"""What comes after a submission: it is said, or watched to its end."""

from dataclasses import dataclass
from typing import Annotated

import typer
from rich.markup import escape

from protos.scheduler.v1 import job_pb2 as pb
from services.cli import live
from services.cli.connection import Platform
from services.cli.output import console, error_console, print_json
from services.words import format as fmt

OUTPUT = "Output"


@dataclass(frozen=True)
class Following:
    """Whether and how."""

    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return at once, do not watch.", rich_help_panel=OUTPUT)
    ] = False
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the job at its end (--detach: now).", rich_help_panel=OUTPUT)
    ] = False

    def follow(self, platform: Platform, job: pb.Job) -> None:
        """Say it, or watch it to its end, which makes the exit code."""
        if self.detach:
            _submitted(job, self.as_json)
            return
        if not self.as_json:
            console().print(f"Submitted [bold]{escape(job.job_id)}[/]", soft_wrap=True)
        over = live.watch(platform, job, quiet=self.as_json)
        if self.as_json:
            print_json(over)
        raise typer.Exit(live.exit_code(over))


def _submitted(job: pb.Job, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    out, aside = console(), error_console()
    out.print(job.job_id, soft_wrap=True)
    for warning in job.warnings:
        aside.print(f"[yellow]warning:[/] {escape(warning)}")
    aside.print(f"[dim]Watch it: tether jobs watch {fmt.short_id(job.job_id)}[/]")
