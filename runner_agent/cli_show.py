"""How a runner's state is shown in a terminal."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from runner_agent import losses
from runner_agent.cli_shared import console, span

SUSPENDED_BY = {"box_owner": "by you", "health": "by the box's health", "admin": "by the platform"}
STATES = {
    "online": "🟢 online",
    "suspended": "🟠 suspended",
    "training": "🔴 training",
    "cut_off": "🔴 training · cut off",
    "not_connected": "⚫ not connected",
    "not_running": "⚫ not running",
    "left_alone": "🔴 not running, but its training goes on",
}


def state_of(status: dict[str, Any]) -> str:
    """One of STATES, from what `control.as_json` tells. Pure."""
    training = status["training"] is not None
    if not status["running"]:
        return "left_alone" if training else "not_running"
    if not status["connected"]:
        return "cut_off" if training else "not_connected"
    if training:
        return "training"
    return "suspended" if status["suspensions"] else "online"


def gpus_of(status: dict[str, Any]) -> str:
    """For example `2 × NVIDIA A10G (simulated)`; UUIDs where the agent has never told the types."""
    counted = {kind: status["gpus"].count(kind) for kind in status["gpus"]}
    kinds = [f"{number} × {kind}" if number > 1 else kind for kind, number in counted.items()]
    mark = " (simulated)" if status["simulated"] else ""
    return (", ".join(kinds or status["gpu_uuids"]) or "not looked at yet") + mark


def print_status(status: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("runner", escape(status["runner_name"] or status["name"]))
    ending = " · stops after this training" if status["stops_after_training"] and status["training"] else ""
    table.add_row("state", STATES[state_of(status)] + ending)
    table.add_row("platform", escape(status["server"]))
    if status["gpus"] or status["gpu_uuids"]:
        note = "; trains on the CPU" if status["simulated"] else ""
        table.add_row("GPUs", escape(gpus_of(status)) + (f"[yellow]{note}[/]" if note else ""))
    if status["error"]:
        table.add_row("problem", f"[red]{escape(status['error'])}[/]")
    for one in status["suspensions"]:
        left = "" if one["ends_in_s"] is None else f" · ends in {span(one['ends_in_s'])}"
        table.add_row("suspended", f"{SUSPENDED_BY[one['owner']]}: {escape(one['reason'])}{left}")
    training = status["training"]
    if training is not None:
        table.add_row("job", escape(training["job_id"]))
        table.add_row("training", f"{training['attempt_id']} · {training['phase']} · step {training['step']}")
        table.add_row("running for", span(training["running_s"]))
        if training["dropped"]:
            table.add_row("dropped", f"[yellow]{losses.listed(training['dropped'])}, for want of disk[/]")
        if not status["connected"]:
            table.add_row("cut off", f"[red]ends itself in {span(training['ends_itself_in_s'])}[/]")
    elif status["connected"]:
        ready = "ready for the next training" if status["warm"] else "loading the training libraries"
        table.add_row("training", f"none · {ready}")
    if status["unreported"] or status["unshipped_bytes"]:
        waiting = f"{status['unreported']} reports, {status['unshipped_bytes']:,} bytes of records"
        table.add_row("to deliver", waiting)
    console.print(table, highlight=False)
    if not status["running"]:
        of = "" if status["name"] == "default" else f" --name {status['name']}"
        console.print(f"Start it with: tether-runner start{of}", highlight=False)
