"""`tether up`, `tether status` and `tether down`: the commands of the platform on this machine."""

import asyncio
import json
import sys
from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.local import backup_cli
from deploy.local.credentials import load_or_make
from deploy.local.errors import LocalError
from deploy.local.health import probe_gateway, probe_grpc, probe_nats, probe_postgres
from deploy.local.home import Home, default_home
from deploy.local.page import page_address, signed_in_address
from deploy.local.parameters import DataDir, home_of, refused
from deploy.local.platform import GATEWAY, Platform
from deploy.local.postgres import SUPERUSER
from deploy.local.state import PlatformState, ProcessState, running
from deploy.local.up import run_until_stopped, start_detached, stop_running

# The only platform of a machine has the same addresses after every new start.
FIRST_PORT = 27700


def register(app: typer.Typer) -> None:
    """Adds the commands to the `tether` program."""
    app.command(rich_help_panel="Platform")(up)
    app.command(rich_help_panel="Platform")(status)
    app.command(rich_help_panel="Platform")(down)
    backup_cli.register(app)


def up(
    data_dir: DataDir = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it runs; stop it with `tether down`.")] = False,
) -> None:
    """Start the whole platform on this machine and keep it running until Ctrl-C.

    Examples:  tether up   ·   tether up --detach --data-dir ./platform
    """
    home = home_of(data_dir)
    console = Console(highlight=False)
    say = partial(_say, console)
    # What is no terminal may be a log, and in a log there must be no code.
    with_code = sys.stdout.isatty()
    try:
        if detach:
            start_detached(home, say)
            how_to_stop = f"tether down{_data_dir_flag(home)}"
            asyncio.run(_summary(console, home, how_to_stop, with_code))
        else:
            platform = Platform(home, say, first_port=FIRST_PORT)
            asyncio.run(run_until_stopped(platform, partial(_summary, console, home, "Ctrl-C", with_code=with_code)))
            say("stopped; `tether up` goes on where it was left")
    except LocalError as error:
        raise refused(error) from None


def status(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Show each process of the platform. The exit code is 0 only if all of them are healthy.

    Example:  tether status --json
    """
    home = home_of(data_dir)
    state = running(home.state)
    if state is None and not as_json:
        raise refused(LocalError(f"no platform is running in {home.root}; start it with `tether up`"))
    try:
        health = asyncio.run(_probe_all(home, state)) if state is not None else {}
    except LocalError as error:
        raise refused(error) from None
    if as_json:
        typer.echo(json.dumps(_status_json(home, state, health), indent=2))
    elif state is not None:
        console = Console(highlight=False)
        console.print(_status_table(state, health), soft_wrap=True)
        for process in state.processes:
            if process.unavailable:
                console.print(f"{process.name} is unavailable: {escape(process.unavailable)}", soft_wrap=True)
    if state is None or not all(health.values()):
        raise typer.Exit(1)


def down(data_dir: DataDir = None) -> None:
    """Stop the platform that `tether up` started here. Everything is kept for the next `tether up`."""
    home = home_of(data_dir)
    try:
        stopped = asyncio.run(stop_running(home))
    except LocalError as error:
        raise refused(error) from None
    if stopped is None:
        typer.echo(f"no platform is running in {home.root}; there was nothing to stop")
    else:
        typer.echo(f"stopped the platform in {home.root} (process {stopped.pid}); its data is kept")


async def _probe_all(home: Home, state: PlatformState) -> dict[str, bool]:
    answers = await asyncio.gather(*(_healthy(home, process) for process in state.processes))
    return {process.name: healthy for process, healthy in zip(state.processes, answers, strict=True)}


async def _healthy(home: Home, process: ProcessState) -> bool:
    if process.unavailable:
        # It is as well as it can be here, and nothing else needs it.
        return True
    if process.identity is None or not process.identity.alive():
        return False
    try:
        if process.name == "postgres":
            password = load_or_make(home.secrets).postgres_superuser
            await probe_postgres(f"postgresql://{SUPERUSER}:{password}@{process.address}/postgres")
        elif process.name == "nats":
            await probe_nats(process.address)
        elif process.name == GATEWAY:
            await probe_gateway(process.address)
        else:
            await probe_grpc(process.address)
    except LocalError:
        raise
    except Exception:
        return False
    return True


def _status_json(home: Home, state: PlatformState | None, health: dict[str, bool]) -> dict[str, object]:
    processes = [
        {
            "name": process.name,
            "pid": process.identity.pid if process.identity else None,
            "healthy": health[process.name],
            "address": process.address,
            "restarts": process.restarts,
            "log": process.log,
            "unavailable": process.unavailable,
        }
        for process in (state.processes if state is not None else ())
    ]
    supervisor = asdict(state.supervisor)["pid"] if state is not None else None
    phase = state.phase if state is not None else "stopped"
    return {"data_dir": str(home.root), "phase": phase, "supervisor_pid": supervisor, "processes": processes}


def _health(process: ProcessState, healthy: bool) -> str:
    if process.unavailable:
        return "[yellow]unavailable[/]"
    return "[green]healthy[/]" if healthy else "[red]down[/]"


def _status_table(state: PlatformState, health: dict[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("PROCESS", "PID", "HEALTH", "ADDRESS", "RESTARTS", "LOG"):
        table.add_column(heading, overflow="fold")
    for process in state.processes:
        table.add_row(
            process.name,
            str(process.identity.pid) if process.identity else "-",
            _health(process, health[process.name]),
            process.address,
            str(process.restarts),
            escape(process.log),
        )
    return table


async def _summary(console: Console, home: Home, how_to_stop: str, with_code: bool) -> None:
    state = running(home.state)
    width = max(len(process.name) for process in state.processes) if state is not None else 0
    console.print("\n[bold green]Tether is up.[/]\n")
    for process in state.processes if state is not None else ():
        console.print(f"  {process.name:<{width}}  {process.address}", soft_wrap=True)
    console.print(f"\n  data   {escape(str(home.root))}", soft_wrap=True)
    console.print(f"  logs   {escape(str(home.logs))}", soft_wrap=True)
    console.print(f"  token  {escape(str(home.client))}", soft_wrap=True)
    console.print(
        "\nNext: `tether runners add NAME` makes a runner and says how to install it on its box.", soft_wrap=True
    )
    if home.root != default_home():
        console.print(f"      In other terminals first: export TETHER_HOME={escape(str(home.root))}", soft_wrap=True)
    console.print(f"Stop: {how_to_stop}", soft_wrap=True)
    if page := await _page(state, home, with_code):
        hint = "it signs you in once" if "#" in page else "`tether open` signs you in"
        console.print(f"\n[bold]Page: {escape(page)}[/]  ({hint})", soft_wrap=True)


async def _page(state: PlatformState | None, home: Home, with_code: bool) -> str:
    """Empty where there is no gateway."""
    addresses = {process.name: process.address for process in (state.processes if state is not None else ())}
    gateway = addresses.get(GATEWAY, "-")
    if gateway == "-":
        return ""
    if not with_code:
        return page_address(gateway)
    return await signed_in_address(gateway, addresses["scheduler"], load_or_make(home.secrets).workspace_token)


def _say(console: Console, line: str) -> None:
    console.print(escape(line), soft_wrap=True)


def _data_dir_flag(home: Home) -> str:
    return "" if home.root == default_home() else f" --data-dir {home.root}"
