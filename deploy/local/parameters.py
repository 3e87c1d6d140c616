"""What the platform's commands have in common."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.local.errors import LocalError
from deploy.local.home import Home, default_home

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="TETHER_HOME", help="Where the platform keeps everything.", show_default=False),
]


def home_of(data_dir: Path | None) -> Home:
    return Home((data_dir or default_home()).expanduser().absolute())


def refused(error: LocalError) -> typer.Exit:
    """To be raised: the error's sentence has been told."""
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(1)
