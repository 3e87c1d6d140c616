"""`tether workspaces`: for the operator of a platform."""

from typing import Annotated

import typer
from rich.markup import escape

from protos.scheduler.v1 import access_pb2 as pb
from services.cli.connection import connect, new_request_id
from services.cli.output import console, error_console, print_json
from services.cli.parameters import AsJson


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(no_args_is_help=True)
    # A callback keeps `create` a command of its own while it is the only one.
    group.callback()(_group)
    group.command("create", epilog="Example: tether workspaces create vision-team")(create)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the workspace.")],
    as_json: AsJson = False,
) -> None:
    """Make a workspace and its first admin token, which is printed once, alone on stdout.

    Uses the operator's token: the one of `tether up` on its own machine, otherwise TETHER_TOKEN.
    """
    created = connect(context).operator_access.CreateWorkspace(
        pb.CreateWorkspaceRequest(request_id=new_request_id(), name=name)
    )
    if as_json:
        print_json(created)
        return
    aside = error_console()
    if created.secret_withheld:
        aside.print("The workspace exists, but its token got lost on the way and is never shown twice; make another.")
        raise typer.Exit(1)
    aside.print(f"Workspace [bold]{escape(name)}[/] ({created.workspace_id}). Its admin token, shown only now:\n")
    console().print(created.secret, soft_wrap=True)
    aside.print("\n[dim]Work in it: export TETHER_TOKEN=…[/]")


def _group() -> None:
    pass
