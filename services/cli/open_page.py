"""`tether open`: the page, signed in."""

import json
import os
import sys
import webbrowser
from typing import Annotated

import typer

from protos.scheduler.v1.access_pb2 import CreateSignInCodeRequest
from services.cli.connection import connect, new_request_id
from services.cli.errors import CliError
from services.cli.output import console, error_console
from services.cli.parameters import AsJson


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    app.command(
        name, help=_HELP, short_help=help_, rich_help_panel=panel, epilog="Examples: tether open\n\ntether open --print"
    )(open_)


_HELP = """Open the page in your browser, signed in with the role of your token.

The printed address signs in once, within ten minutes: hand it to nobody. The sign-in lasts for twelve hours at most."""


def open_(
    context: typer.Context,
    only_print: Annotated[bool, typer.Option("--print", help="Print the address and open nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    platform = connect(context)
    page = platform.settings.page
    if not page:
        raise CliError("no page is known of this platform: it runs without a gateway; `tether status` says why")
    made = platform.access.CreateSignInCode(CreateSignInCodeRequest(request_id=new_request_id()))
    if made.code_withheld:
        raise CliError("the code got lost on the way and is never shown twice; run `tether open` again")
    # In the fragment: browsers send it to no server, so it gets into no log.
    address = f"{page}/#code={made.code}"
    if as_json:
        print(json.dumps({"address": address, "expires_at_ms": str(made.expires_at_ms)}, indent=2))
        return
    console().print(address, soft_wrap=True, markup=False)
    if only_print:
        return
    if _has_display() and webbrowser.open(address):
        error_console().print("[dim]Your browser opens it.[/]")
    else:
        error_console().print("[dim]Open it in a browser on this machine; it signs in once.[/]")


def _has_display() -> bool:
    """Otherwise a browser for the terminal would take it over."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
