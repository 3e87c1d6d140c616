"""What the commands of `tether-runner` share: options, consoles, questions."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from runner_agent import ownership, stopping
from runner_agent.config import StateFolder, find_state, installed_runners
from runner_agent.control import Runner
from runner_agent.errors import BoxError

console = Console()
errors = Console(stderr=True)


def _names() -> list[str]:
    return [folder.root.name for folder in installed_runners()]


Name = Annotated[
    str,
    typer.Option(help="Which runner of this box; not needed where there is only one.", autocompletion=_names),
]
StateDir = Annotated[
    Path | None,
    # That it is another user's is said by the command, in a sentence.
    typer.Option(help="Folder of the runner's state.", envvar="TETHER_RUNNER_STATE", show_envvar=True, readable=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def the_runner(state_dir: Path | None, name: str) -> StateFolder:
    """The runner that a command means; root acts as the runner's owner from here on. Raises BoxError."""
    folder = find_state(state_dir, name)
    ownership.become_owner(folder.root)
    return folder


def describe_training(runner: Runner) -> str:
    """What runs on the runner, in a sentence; empty where nothing does."""
    if runner.held:
        held = runner.held[0]
        return f"The job {held['job_id']} runs here (attempt {held['attempt_id']}, step {held['step']})."
    return f"A job is about to start here (attempt {runner.waiting})." if runner.waiting else ""


def stop_training(runner: Runner, reason: str, message: str) -> None:
    """Stop what runs and wait until the platform knows, if it can be told. Raises BoxError where it does not end."""
    with errors.status("Stopping the training; it saves a checkpoint…"):
        if not stopping.stop_training(runner, reason, message):
            raise BoxError("the training does not end; see `tether-runner logs`, and try again")
        if runner.running and not stopping.wait_until_told(runner.folder):
            errors.print("The platform could not be told yet; it will be at the next start.")


def say_untold(told: bool) -> None:
    """Say so where the platform does not know yet."""
    if not told:
        errors.print("The platform is not told yet; it is as soon as the runner is connected.")


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
