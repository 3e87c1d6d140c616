"""`tether train architectures`: what can be trained, and what it needs."""

from typing import Annotated

import typer
from rich.text import Text

from protos.scheduler.v1.workflow_pb2 import ListArchitecturesRequest, ListArchitecturesResponse
from protos.training.v1.training_pb2 import Architecture, RequirementsBasis, Task
from services.cli.connection import connect
from services.cli.errors import CliError
from services.cli.output import console, print_json
from services.cli.parameters import AsJson
from services.cli.tables import table
from services.words import format as fmt

EPILOG = "Examples: tether train architectures\n\ntether train architectures --task detection --json"
TASKS = {fmt.words(Task, value, "TASK_"): value for value in Task.values() if value}


def _offered(incomplete: str) -> list[str]:
    return [name for name in TASKS if name.startswith(incomplete)]


def architectures(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Option(metavar="TASK", help=f"Only those for one task: {', '.join(TASKS)}.", autocompletion=_offered),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List what can be trained, and the memory that it needs at its default batch and image size.

    A runner with less than the minimum is refused; with less than the recommended, there is a warning.
    """
    if task and task not in TASKS:
        raise CliError(f"--task is {task!r}; choose one of: {', '.join(TASKS)}")
    response = connect(context).workflows.ListArchitectures(ListArchitecturesRequest())
    found = [one for one in response.architectures if not task or one.task == TASKS[task]]
    if as_json:
        print_json(ListArchitecturesResponse(architectures=found))
        return
    if not found:
        console().print(f"The platform has no architecture{f' for {task}' if task else ''}; see its catalogue.")
        return
    for name, value in TASKS.items():
        mine = [one for one in found if one.task == value]
        if mine:
            console().print(_table(name, mine))
            console().print()
    console().print(
        "[dim]VRAM for each GPU: minimum / recommended, computed (c) or measured (m). HUB: pretrained weights are "
        "published.[/]",
        highlight=False,
    )


def _table(task: str, found: list[Architecture]) -> object:
    made = table(
        task, "parameters", "VRAM", "RAM", "batch", "image", "hub", right=("parameters", "batch"), keep=(task,)
    )
    for one in found:
        needs = one.requirements
        batch = needs.batch_size or one.defaults.batch_size
        size = needs.image_size or one.defaults.image_size
        made.add_row(
            Text(one.architecture_id, "bold"),
            millions(one.parameters),
            Text(_pair(needs.min_gpu_vram_bytes, needs.recommended_gpu_vram_bytes) + _mark(needs.basis), no_wrap=True),
            Text(_pair(needs.min_cpu_ram_bytes, needs.recommended_cpu_ram_bytes), no_wrap=True),
            f"{batch:,}",
            f"{size} px",
            "yes" if one.pretrained else "no",
        )
    return made


def millions(number: int) -> str:
    """For example `11.7 M`; `-` where it is not known."""
    return f"{number / 1_000_000:,.1f} M" if number else "-"


def _pair(minimum_bytes: int, recommended_bytes: int) -> str:
    return f"{minimum_bytes / (1 << 30):g} / {recommended_bytes / (1 << 30):g} GiB"


def _mark(basis: int) -> str:
    if basis == RequirementsBasis.REQUIREMENTS_BASIS_COMPUTED:
        return " c"
    return " m" if basis == RequirementsBasis.REQUIREMENTS_BASIS_MEASURED else ""
