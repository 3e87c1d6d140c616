"""What the commands of `tether-runner` share: options, consoles, questions."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from runner_agent.errors import BoxError

console = Console()
errors = Console(stderr=True)

Name = Annotated[str, typer.Option(help="Which runner of this box; not needed where there is only one.")]
StateDir = Annotated[
    Path | None, typer.Option(help="Folder of the runner's state.", envvar="TETHER_RUNNER_STATE", show_envvar=True)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def confirm(question: str, yes: bool) -> None:
    """Return where the answer is yes. Raises BoxError where it is no, or where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise BoxError("this needs an answer; run it in a terminal, or with --yes")
    if not typer.confirm(question):
        raise BoxError("nothing was changed")


def span(seconds: int) -> str:
    """For example `1:59:30` or `4:05`."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def size(number: int) -> str:
    """For example `1.5 GiB` or `12 B`."""
    value, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
