"""The command line's tree. A group's module is imported only when the command line names it: help stays fast."""

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated

import typer

PROGRAM = "tether"
# Further commands come from other parts of the distribution; a part that is not installed adds none.
ENTRY_POINTS = "tether.commands"

_HELP = """Train on your own GPUs, watch it live, and pay by the minute.

Begin with `tether up` (the platform on this machine) and `tether runners add NAME` (a GPU box)."""

_EPILOG = """A platform elsewhere: set TETHER_SERVER=https://host:port and TETHER_TOKEN."""


@dataclass(frozen=True)
class Group:
    """Module with a function `register(app)`, and the line that help shows."""

    module: str
    help: str
    panel: str


_TRAIN, _LOOK, _ADMIN = "Train", "Look", "Manage"

GROUPS: dict[str, Group] = {
    "train": Group("train", "Run a training and watch it live.", _TRAIN),
    "jobs": Group("jobs", "Trainings: watch, stop, resume, compare, export.", _TRAIN),
    "workflows": Group("workflows", "What trainings are made of, saved under names.", _TRAIN),
    "datasets": Group("datasets", "Name datasets that lie on a box, and check them.", _TRAIN),
    "open": Group("open_page", "Open the page in your browser, signed in.", _LOOK),
    "metrics": Group("metrics", "Curves of a training: charts in the terminal, files with every point.", _LOOK),
    "usage": Group("usage", "Compute minutes: used, charged, recomputed.", _LOOK),
    "events": Group("events", "Everything that happens: follow it, export it, ask it in SQL.", _LOOK),
    "runners": Group("runners", "GPU boxes: list, add, suspend, watch.", _ADMIN),
    "tokens": Group("tokens", "Tokens of people and programs.", _ADMIN),
    "webhook": Group("webhook", "Tell your own systems what happens, as signed HTTP requests.", _ADMIN),
    "workspaces": Group("workspaces", "Make a workspace (operators).", _ADMIN),
    "whoami": Group("whoami", "Say which workspace and role the token has.", _ADMIN),
}


def build(arguments: Sequence[str]) -> typer.Typer:
    """The program, complete for the groups that are named in `arguments` or in the words to be completed."""
    app = typer.Typer(
        name=PROGRAM,
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_options)
    typed = {*arguments, *os.environ.get("COMP_WORDS", "").split(), *_completed()}
    for name, group in GROUPS.items():
        if name in typed:
            importlib.import_module(f"services.cli.{group.module}").register(app, name, group.help, group.panel)
        else:
            app.command(name, help=group.help, rich_help_panel=group.panel)(_not_loaded)
    if not typed & GROUPS.keys():
        for entry in entry_points(group=ENTRY_POINTS):
            try:
                register = entry.load()
            except ImportError:
                continue
            register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(distribution_version(PROGRAM))
        raise typer.Exit


def _options(
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(envvar="TETHER_SERVER", help="The platform: https://host:port, or host:port on this machine."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with your token; otherwise TETHER_TOKEN.", show_default=False)
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow a plain connection to another machine.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass  # read by `connect` from the root context


def _completed() -> list[str]:
    """What zsh and fish say is being completed."""
    return os.environ.get("_TYPER_COMPLETE_ARGS", "").split()


def _not_loaded() -> None:
    raise AssertionError("a named group is always loaded")
