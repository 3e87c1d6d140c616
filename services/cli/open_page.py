"""`tether open`: the page, signed in."""

import html
import json
import os
import sys
import tempfile
import time
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from protos.scheduler.v1.access_pb2 import CreateSignInCodeRequest
from services.cli.connection import connect, new_request_id
from services.cli.errors import CliError
from services.cli.output import console, error_console
from services.cli.parameters import AsJson

# A browser that has to start first needs some seconds until it has read the file.
_KEPT_S = 10.0


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    app.command(
        name, help=_HELP, short_help=help_, rich_help_panel=panel, epilog="Examples: tether open\n\ntether open --print"
    )(open_)


_HELP = """Open the page in your browser, signed in with the role of your token.

The printed address signs in once, within ten minutes: hand it to nobody. The sign-in lasts for twelve hours at most.

Your browser gets it through a file that only you can read and that is removed after ten seconds, when the command
ends."""


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
    if not (_has_display() and _opened(address)):
        error_console().print("[dim]Open it in a browser on this machine; it signs in once.[/]")


def _opened(address: str) -> bool:
    """Whether a browser opens it. Not by its command line, which everybody on the machine can read, but by a file that
    leads it there; that file is gone when this returns.
    """
    try:
        # Not a hidden folder and not the one of temporary files: browsers of Snap and Flatpak may read neither.
        handle, name = tempfile.mkstemp(prefix="tether-open-", suffix=".html", dir=Path.home())
    except (OSError, RuntimeError):
        return False
    file = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(_leading_to(address))
        if not webbrowser.open(file.as_uri()):
            return False
        error_console().print("[dim]Your browser opens it.[/]")
        time.sleep(_KEPT_S)
        return True
    except OSError:
        return False
    finally:
        file.unlink(missing_ok=True)


def _leading_to(address: str) -> str:
    target = html.escape(address)
    return (
        '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Tether</title>'
        f'<meta http-equiv="refresh" content="0;url={target}"><p><a href="{target}">Tether</a></p>\n'
    )


def _has_display() -> bool:
    """Otherwise a browser for the terminal would take it over."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
