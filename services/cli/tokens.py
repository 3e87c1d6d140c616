"""`tether tokens`: who may do what in the workspace."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from protos.events.v1.workspace_pb2 import TOKEN_KIND_SIGN_IN
from protos.events.v1.workspace_pb2 import Role as ProtoRole
from protos.scheduler.v1 import access_pb2 as pb
from services.cli.connection import connect, new_request_id
from services.cli.output import console, error_console, print_json
from services.cli.parameters import AsJson, parse_span_ms
from services.cli.tables import table
from services.clock import PlatformClock
from services.words import format as fmt


class Role(StrEnum):
    """What a token allows."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"
    ANALYST = "analyst"


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command("list", epilog="Example: tether tokens list")(list_)
    group.command("create", epilog="Example: tether tokens create ci --role member --expires-in 90d")(create)
    group.command("revoke", epilog="Example: tether tokens revoke tok_k3v9q2m7x4p8w1zt")(revoke)
    group.command("erase-name", epilog="Example: tether tokens erase-name tok_k3v9q2m7x4p8w1zt")(erase_name)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the tokens of the workspace, revoked ones included, and who is signed in on the page.

    Their secrets are not kept anywhere."""
    response = connect(context).access.ListTokens(pb.ListTokensRequest())
    if as_json:
        print_json(response)
        return
    now_ms = PlatformClock().now_ms()
    made = table("id", "name", "kind", "role", "state", "created", keep=("id", "kind", "created"))
    for token in response.tokens:
        expired = token.expires_at_ms and token.expires_at_ms <= now_ms
        until = f"until {fmt.moment(token.expires_at_ms)}" if token.expires_at_ms else ""
        state = (
            Text("revoked", "red") if token.revoked else Text("expired", "red") if expired else Text("valid ", "green")
        )
        made.add_row(
            token.token_id,
            Text(token.name, "bold") if token.name else Text("erased", "dim"),
            "sign-in" if token.kind == TOKEN_KIND_SIGN_IN else "token",
            fmt.words(ProtoRole, token.role, "ROLE_"),
            state + ("" if token.revoked or expired else until),
            fmt.ago(token.created_at_ms, now_ms),
        )
    console().print(made)


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who or what uses it.")],
    role: Annotated[Role, typer.Option(help="viewer reads; member trains; admin manages; analyst reads the log.")],
    expires_in: Annotated[str, typer.Option(metavar="90d", help="Refused after this time; default: never.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token. Its secret is printed once, alone on stdout."""
    expires_at_ms = PlatformClock().now_ms() + parse_span_ms(expires_in) if expires_in else 0
    role_value = ProtoRole.Value(f"ROLE_{role.name}")
    created = connect(context).access.CreateToken(
        pb.CreateTokenRequest(request_id=new_request_id(), name=name, role=role_value, expires_at_ms=expires_at_ms)
    )
    if as_json:
        print_json(created)
        return
    aside = error_console()
    if created.secret_withheld:
        aside.print(
            f"The token exists, but its secret got lost on the way and is never shown twice; revoke it with "
            f"`tether tokens revoke {created.token.token_id}` and make another."
        )
        raise typer.Exit(1)
    aside.print(f"Token [bold]{escape(name)}[/] ({role.value}). Its secret, shown only now:\n")
    console().print(created.secret, soft_wrap=True)
    aside.print("\n[dim]Use it: export TETHER_TOKEN=…[/]")


def revoke(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="See `tether tokens list`.")],
    as_json: AsJson = False,
) -> None:
    """Refuse a token from now on, on open streams too; with it go the sign-ins that were made with it."""
    response = connect(context).access.RevokeToken(pb.RevokeTokenRequest(request_id=new_request_id(), token_id=token))
    if as_json:
        print_json(response)
    else:
        console().print(f"{escape(token)} is refused from now on.", soft_wrap=True)


def erase_name(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="See `tether tokens list`.")],
    as_json: AsJson = False,
) -> None:
    """Erase the name of a token, which may be a person's; it works on and is known by its id."""
    response = connect(context).access.EraseTokenName(pb.EraseTokenNameRequest(token_id=token))
    if as_json:
        print_json(response)
    else:
        console().print(f"The name of {escape(token)} is erased; backups made before still hold it.", soft_wrap=True)
