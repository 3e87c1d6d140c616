"""`tether-runner`: what the owner of a GPU box does with a runner."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from runner_agent import cli_install, cli_sample, cli_verbs, cli_weights, control, ownership, stopping
from runner_agent.cli_shared import (
    AsJson,
    Name,
    StateDir,
    Yes,
    confirm,
    console,
    describe_training,
    errors,
    say_untold,
    stop_training,
    the_runner,
)
from runner_agent.cli_show import print_status
from runner_agent.errors import BoxError

FOLLOW_INTERVAL_S = 0.2

app = typer.Typer(
    name="tether-runner",
    help="Runs trainings of a Tether platform on this box.\n\n"
    "Begin with [bold]tether-runner install[/bold], then [bold]tether-runner start[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.command(epilog="Example: tether-runner start, or tether-runner start --foreground below a service manager")
def start(
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay in the foreground; Ctrl-C stops.")] = False,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Connect the runner to the platform and take trainings; takes a `stop --after-job` back.

    Without a connection the runner goes on trying in the background, and the exit code is 1.
    """
    folder = the_runner(state_dir, name)
    runner = control.look(folder)
    if runner.running and runner.draining and not foreground:
        with errors.status("Taking the stop back…"):
            told = control.take_back_drain(runner)
        console.print(f"The runner {runner.config.name} does not stop after its training.")
        say_untold(told)
        return
    if foreground:
        if runner.running:
            raise BoxError(f"the runner is running already (pid {runner.launcher_pid}); see `tether-runner status`")
        console.print(f"Running {runner.config.name}; logs: tether-runner logs -f", highlight=False)
        ownership.stay()
        command = control.launcher_command(folder)
        os.execv(command[0], command)
    with errors.status("Connecting…"):
        runner = control.start(folder)
    status = control.as_json(runner)
    print_status(status)
    if not status["connected"]:
        # It goes on trying in the background; whoever waited for it should know.
        raise typer.Exit(1)


@app.command(
    epilog="Example: tether-runner stop\n\n"
    "Let a training finish first: tether-runner stop --after-job (start or resume takes it back)"
)
def stop(
    after_job: Annotated[
        bool, typer.Option("--after-job", help="Accept nothing new, finish and deliver the job that runs, then stop.")
    ] = False,
    yes: Yes = False,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Stop the runner. A training that runs is ended, after it has saved a checkpoint; asks first.

    Works without a connection too: what the platform has not been told is told at the next start.
    """
    runner = control.look(the_runner(state_dir, name))
    training = describe_training(runner)
    if after_job and (runner.running or training):
        _stop_after_job(runner)
        return
    if training:
        confirm(f"{training} Stop it? It saves a checkpoint, the job ends, and so does the runner.", yes)
        stop_training(runner, "END_REASON_STOPPED_BY_PERSON", "stopped on the box by its owner")
    with errors.status("Stopping…"):
        stopping.stop(runner)
    if runner.running or training:
        console.print(f"The runner {runner.config.name} is stopped.")
    else:
        console.print(f"The runner {runner.config.name} is not running.")


def _stop_after_job(runner: control.Runner) -> None:
    if not runner.running:
        raise BoxError(
            "the runner is not running, so nothing would see to it; its training ends itself when its window is over: "
            "run `tether-runner start` first, or stop it without --after-job"
        )
    with errors.status("Telling the platform…"):
        told = stopping.stop_after_training(runner)
    runner = control.look(runner.folder)
    training = describe_training(runner)
    if not training:
        with errors.status("Stopping…"):
            if stopping.wait_until_stopped(runner):
                console.print(f"The runner {runner.config.name} is stopped.")
                return
    what = training or "It stops as soon as everything is delivered to the platform; see: tether-runner status"
    console.print(
        f"The runner {runner.config.name} takes no new training and stops after the one that it has. {what}",
        highlight=False,
        soft_wrap=True,
    )
    console.print("Take it back with: tether-runner resume")
    if runner.running:
        say_untold(told)


@app.command(epilog="Example: tether-runner status --json")
def status(json_output: AsJson = False, name: Name = "", state_dir: StateDir = None) -> None:
    """Show whether the runner is connected and what it trains."""
    content = control.as_json(control.look(the_runner(state_dir, name)))
    if json_output:
        print(json.dumps(content, indent=2))
    else:
        print_status(content)


@app.command(epilog="Example: tether-runner logs -f")
def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last entries.")] = 50,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Show what launcher and agent have logged."""
    folder = the_runner(state_dir, name)
    folder.load()
    sources = {"launcher": folder.launcher_log, "agent": folder.agent_log}
    places = {source: _size(path) for source, path in sources.items()}
    entries = control.log_entries(folder, lines)
    for entry in entries:
        _print_entry(entry)
    if not entries:
        console.print("Nothing is logged yet; start the runner with: tether-runner start")
    while follow:
        time.sleep(FOLLOW_INTERVAL_S)
        for source, path in sources.items():
            size = _size(path)
            # A smaller file is a new one: the old one was full.
            start_at = places[source] if size >= places[source] else 0
            if size > start_at:
                with path.open("rb") as file:
                    file.seek(start_at)
                    data = file.read()
                data = data[: data.rfind(b"\n") + 1]
                for line in data.decode(errors="replace").splitlines():
                    _print_entry(control.log_entry(source, line))
                places[source] = start_at + len(data)


cli_install.register(app)
cli_verbs.register(app)
cli_sample.register(app)
cli_weights.register(app)


def _print_entry(entry: dict[str, Any]) -> None:
    at, level, event = entry.pop("timestamp", ""), entry.pop("level", ""), entry.pop("event", "")
    source = entry.pop("source")
    rest = " ".join(f"{name}={value}" for name, value in entry.items() if value != "")
    console.print(f"{at} {source:8} {level:7} {event} {rest}".rstrip(), markup=False, highlight=False, soft_wrap=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main() -> None:
    """Run the command line; an expected error is one sentence and exit code 1."""
    try:
        app()
    except BoxError as error:
        errors.print(f"[red]{escape(str(error))}[/]", highlight=False, soft_wrap=True)
        sys.exit(1)
    except PermissionError as error:
        who = "run the command as the runner's owner, or as root"
        errors.print(f"[red]{escape(f'you may not use {error.filename}; {who}')}[/]", highlight=False, soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        # A full disk, a file that is something else: not the fault of this program.
        problem = f"{error.filename or 'the box'}: {error.strerror or error}; see to it, then try again"
        errors.print(f"[red]{escape(problem)}[/]", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
