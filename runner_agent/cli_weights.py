"""`tether-runner weights`: pretrained weights for boxes that reach no model hub."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from runner_agent import weights
from runner_agent.cli_shared import AsJson, Name, StateDir, Yes, confirm, console, errors, size, the_runner
from runner_agent.config import installed_runners


def _known() -> list[str]:
    """For the Tab key: what the runners of this user have."""
    return sorted({one.name for folder in installed_runners() for one in weights.listed(folder.root)})


_Weights = Annotated[
    str,
    typer.Argument(metavar="WEIGHTS", help="Their name, for example microsoft/resnet-18.", autocompletion=_known),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Pretrained weights on this box, for trainings to begin with.", no_args_is_help=True)
    group.command(
        epilog="Examples: tether-runner weights add microsoft/resnet-18 ./resnet-18\n\n"
        "tether-runner weights add my-detector ~/detector.safetensors"
    )(add)
    group.command("list", epilog="Example: tether-runner weights list --json")(list_)
    group.command(epilog="Example: tether-runner weights remove my-detector")(remove)
    app.add_typer(group, name="weights")


def add(
    weights_name: _Weights,
    path: Annotated[Path, typer.Argument(help="A folder with model.safetensors, or one file of weights.")],
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Copy weights to this runner, in place of those of the same name.

    Under the name that an architecture has on the hub (see `tether train architectures`) its trainings begin with
    them; under any other name a training has to ask for them: `tether train … --weights NAME`.
    """
    folder = the_runner(state_dir, name)
    folder.load()
    with errors.status("Copying and checking…"):
        added = weights.add(folder.root, weights_name, path)
    console.print(f"Added {escape(added.name)}: {added.parameters:,} numbers, {size(added.bytes)}", highlight=False)


def list_(json_output: AsJson = False, name: Name = "", state_dir: StateDir = None) -> None:
    """List the weights that were added to this runner."""
    folder = the_runner(state_dir, name)
    folder.load()
    found = weights.listed(folder.root)
    if json_output:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    if not found:
        console.print("No weights are added here; add some with: tether-runner weights add NAME PATH")
        return
    table = Table("weights", "model", box=None, padding=(0, 2, 0, 0))
    for heading in ("numbers", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        table.add_row(escape(one.name), escape(one.model_type or "-"), f"{one.parameters:,}", size(one.bytes))
    console.print(table, highlight=False)


def remove(weights_name: _Weights, yes: Yes = False, name: Name = "", state_dir: StateDir = None) -> None:
    """Remove weights from this runner; asks first. A training that runs goes on."""
    folder = the_runner(state_dir, name)
    folder.load()
    if weights.find(folder.root, weights_name) is not None:
        confirm(f"Remove the weights {weights_name} from this runner?", yes)
    weights.remove(folder.root, weights_name)
    console.print(f"Removed {escape(weights_name)}.", highlight=False)
