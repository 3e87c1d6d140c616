"""Verbs of `tether-runner` for a runner that is installed: suspend, resume, restart, list, disk, prune."""

import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from runner_agent import control, dataset_cache, disk, suspension
from runner_agent.cli_shared import (
    AsJson,
    Name,
    StateDir,
    Yes,
    confirm,
    console,
    errors,
    say_untold,
    size,
    span,
    the_runner,
)
from runner_agent.cli_show import STATES, gpus_of, state_of
from runner_agent.config import StateFolder, installed_runners
from runner_agent.errors import BoxError


def suspend(
    duration: Annotated[
        str, typer.Option("--for", help="Ends by itself after this time, as in 30m, 2h or 1d; default: at resume.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Shown to whoever looks for a runner.")] = "",
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Take no new training; one that runs goes on.

    Works without a connection too: the platform is told at the next one. Lasts over restarts and reboots. Another
    suspension of yours is replaced.
    """
    runner = control.look(the_runner(state_dir, name))
    span_s = suspension.parse_span_s(duration) if duration else None
    with errors.status("Suspending…"):
        told = control.suspend(runner, suspension.make(reason, span_s, control.suspension_now()))
    until = "until you resume it" if span_s is None else f"for {span(span_s)}"
    console.print(f"The runner {runner.config.name} is suspended {until}.", highlight=False)
    if runner.held:
        console.print("The training that runs goes on.")
    say_untold(told)


def resume(name: Name = "", state_dir: StateDir = None) -> None:
    """Take trainings again: lifts your own suspension, not an admin's and not that of the box's health.

    Works without a connection too: the platform is told at the next one.
    """
    runner = control.look(the_runner(state_dir, name))
    held = {one["owner"] for one in control.suspensions(runner)}
    draining = runner.draining
    if "box_owner" in held or runner.folder.suspension.exists():
        with errors.status("Resuming…"):
            told = control.resume(runner)
        console.print(f"The runner {runner.config.name} takes trainings again, as far as you are concerned.")
        if draining and runner.running:
            console.print("It does not stop after its training.")
        say_untold(told)
    else:
        console.print(f"The runner {runner.config.name} is not suspended by you.")
    if held - {"box_owner"}:
        console.print("It is suspended for another reason still; see: tether-runner status")


def restart(name: Name = "", state_dir: StateDir = None) -> None:
    """Restart the runner's own processes, after an upgrade for example. A training that runs goes on.

    Starts a runner that is not running. Works without a connection too; the runner goes on trying to connect.
    """
    before = control.look(the_runner(state_dir, name))
    with errors.status("Restarting…"):
        runner = control.restart(before)
    done = "restarted" if before.running else "started"
    console.print(f"The runner {runner.config.name} is {done}.")
    if runner.held:
        console.print(f"Its training goes on (attempt {runner.held[0]['attempt_id']}).", highlight=False)
    if not runner.agent.get("connected"):
        problem = str(runner.agent.get("error") or "no answer yet")
        errors.print(f"It is not connected ({escape(problem)}); see `tether-runner status`.", soft_wrap=True)
        raise typer.Exit(1)


def list_runners(json_output: AsJson = False, state_dir: StateDir = None) -> None:
    """List the runners of this user on this box. Needs no connection."""
    folders = installed_runners()
    if state_dir is not None and all(StateFolder(state_dir).root != folder.root for folder in folders):
        extra = StateFolder(state_dir)
        folders += [extra] if extra.config.exists() else []
    rows = [_row(folder) for folder in folders]
    if json_output:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        console.print("No runner is installed on this box; run `tether-runner install` first.")
        return
    table = Table("runner", "state", "GPUs", "platform", "training", "state folder", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        state = STATES.get(row["state"], row["state"])
        training = row["training"] and f"{row['job_id']}, step {row['step']}"
        if training and row["stops_after_training"]:
            training += ", stops after it"
        words = (row["name"], state, gpus_of(row), row["server"], training or "none", row["state_dir"])
        table.add_row(*(escape(word) for word in words))
    console.print(table, highlight=False)
    for row in rows:
        if row["problem"]:
            errors.print(f"[red]{escape(row['name'])}: {escape(row['problem'])}[/]", highlight=False, soft_wrap=True)


def _row(folder: StateFolder) -> dict[str, Any]:
    nothing: dict[str, Any] = {"state": "damaged", "running": False, "connected": False, "stops_after_training": False}
    nothing |= {"gpus": [], "gpu_uuids": [], "simulated": False, "server": ""}
    nothing |= {"training": None, "job_id": None, "step": None}
    row: dict[str, Any] = {"name": folder.root.name, "state_dir": str(folder.root), **nothing}
    try:
        status = control.as_json(control.look(folder))
    except BoxError as error:
        # One damaged runner does not hide the others.
        return {**row, "problem": str(error)}
    row |= {key: status[key] for key in row.keys() & status.keys()}
    row |= {"state": state_of(status), "training": None, "problem": status["error"]}
    if status["training"]:
        row |= {"training": status["training"]["attempt_id"]}
        row |= {key: status["training"][key] for key in ("job_id", "step")}
    return row


def show_disk(json_output: AsJson = False, name: Name = "", state_dir: StateDir = None) -> None:
    """Show what the runner's state folder uses. Needs no connection."""
    folder = the_runner(state_dir, name)
    folder.load()
    found = disk.use(folder)
    if json_output:
        print(json.dumps(disk.use_as_json(found), indent=2))
        return
    if found.attempts:
        table = Table("attempt", "state", box=None, padding=(0, 2, 0, 0))
        for heading in ("metrics", "logs", "checkpoints", "began with", "total"):
            table.add_column(heading, justify="right")
        for one in found.attempts:
            numbers = (one.spool_bytes, one.log_bytes, one.checkpoint_bytes, one.input_bytes, one.total_bytes)
            table.add_row(one.attempt_id, one.state, *(size(number) for number in numbers))
        console.print(table, highlight=False)
    else:
        console.print("No training has run here yet.")
    datasets = f" Fetched datasets: {size(found.dataset_bytes)}." if found.dataset_bytes else ""
    console.print(
        f"Logs of the runner: {size(found.log_bytes)}.{datasets} All of {escape(str(folder.root))}: "
        f"{size(found.total_bytes)}; {size(found.free_bytes)} are free on its disk.",
        highlight=False,
        soft_wrap=True,
    )
    for warning in disk.warnings(found):
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False, soft_wrap=True)
    if any(one.state == "delivered" and one.spool_bytes + one.log_bytes + one.input_bytes for one in found.attempts):
        console.print("See what can go with: tether-runner prune --dry-run")


def prune(
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Remove best and last checkpoints as well; they exist nowhere else.")
    ] = False,
    datasets: Annotated[
        bool, typer.Option("--datasets", help="Remove datasets that were fetched from URLs as well; they can be again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")] = False,
    yes: Yes = False,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Remove spools and surplus checkpoints of trainings that are over and of which the platform has everything.

    Best and last checkpoints stay, unless --checkpoints is given; one that was fetched to begin with goes. Needs no
    connection; what is not delivered yet stays.
    """
    folder = the_runner(state_dir, name)
    folder.load()
    items = disk.prunable(folder, checkpoints=checkpoints)
    fetched = [one for one in dataset_cache.listed(folder.datasets) if not one.held] if datasets else []
    if not items and not fetched:
        console.print("There is nothing to remove: what is left is needed, or not delivered to the platform yet.")
        return
    lost = sum(len(item.precious) for item in items)
    for item in items:
        also = f", with {', '.join(item.precious)}" if item.precious else ""
        console.print(f"  {item.attempt_id}: {size(item.bytes)}{escape(also)}", highlight=False, soft_wrap=True)
    for one in fetched:
        console.print(f"  {escape(one.url)}: {size(one.bytes)}", highlight=False, soft_wrap=True)
    freeable_bytes = sum(item.bytes for item in items) + sum(one.bytes for one in fetched)
    total = f"{size(freeable_bytes)} of {len(items)} trainings"
    total += f" and {len(fetched)} fetched datasets" if fetched else ""
    if dry_run:
        console.print(f"Would free {total}.", highlight=False)
        return
    warning = f", and {lost} best or last checkpoints for good" if lost else ""
    confirm(f"Remove {total}{warning}?", yes)
    freed_bytes, problems = disk.prune(items)
    freed_bytes += sum(one.bytes for one in fetched if dataset_cache.remove(one.path))
    console.print(f"Freed {size(freed_bytes)}.", highlight=False)
    if problems:
        raise BoxError("; ".join(problems))


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(epilog='Example: tether-runner suspend --for 2h --reason "the box is needed for a demo"')(suspend)
    app.command(epilog="Example: tether-runner resume --name box-1")(resume)
    app.command(epilog="Example: tether-runner restart --name box-1")(restart)
    app.command("list", epilog="Example: tether-runner list --json")(list_runners)
    app.command("disk", epilog="Example: tether-runner disk")(show_disk)
    app.command(epilog="Example: tether-runner prune --dry-run")(prune)
