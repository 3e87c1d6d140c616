"""`tether whoami`."""

import typer
from rich.text import Text

from protos.events.v1.workspace_pb2 import Role
from protos.scheduler.v1.access_pb2 import WhoAmIRequest
from services.cli.connection import connect
from services.cli.output import console, print_json
from services.cli.parameters import AsJson
from services.cli.tables import facts
from services.words import format as fmt


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    app.command(name, help=help_, rich_help_panel=panel, epilog="Example: tether whoami --json")(whoami)


def whoami(context: typer.Context, as_json: AsJson = False) -> None:
    platform = connect(context)
    response = platform.access.WhoAmI(WhoAmIRequest())
    if as_json:
        print_json(response)
        return
    role = response.kind if response.kind == "operator" else fmt.words(Role, response.role, "ROLE_")
    console().print(
        facts(
            ("workspace", Text(response.workspace_name or "none: operators work on the platform itself", "bold")),
            ("role", role),
            ("token", response.subject_id),
            ("name", response.name),
            ("valid until", fmt.moment(response.expires_at_ms) if response.expires_at_ms else ""),
            ("platform", str(platform.settings.endpoints["scheduler"])),
            ("workspace id", Text(response.workspace_id, "dim")),
        )
    )
