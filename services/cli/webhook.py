"""`tether webhook`: the workspace's own systems are told of what happens."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from protos.eventlog.v1 import eventlog_pb2 as pb
from services.cli.connection import connect, new_request_id
from services.cli.errors import CliError
from services.cli.output import console, error_console, print_json
from services.cli.parameters import AsJson, Yes
from services.cli.tables import facts
from services.clock import PlatformClock
from services.words import format as fmt


class Kind(StrEnum):
    """What is told."""

    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    UNREACHABLE = "unreachable"
    QUOTA = "quota"


_NONE = "There is no webhook. Set one: tether webhook set https://host/path"


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command("show", epilog="Example: tether webhook show")(show)
    group.command(
        "set", epilog="Example: tether webhook set https://ci.example.org/tether --kind failed --kind killed"
    )(set_)
    group.command("replay", epilog="Example: tether webhook replay --from 1200")(replay)
    group.command("remove", epilog="Example: tether webhook remove")(remove)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the workspace's webhook: how far it is, and why it stands still if it does."""
    response = connect(context).webhooks.GetWebhook(pb.GetWebhookRequest())
    if as_json:
        print_json(response)
    elif not response.HasField("webhook"):
        console().print(_NONE, soft_wrap=True)
    else:
        _print(response.webhook)


def set_(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="https://host/path; every event is a POST to it.")],
    kinds: Annotated[
        list[Kind] | None, typer.Option("--kind", help="Only such events; may be repeated. Default: all.")
    ] = None,
    new_secret: Annotated[
        bool, typer.Option("--new-secret", help="Make a new signing secret; the old one ends at once.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Set the workspace's one webhook, or change it (admins). A new secret is printed once, alone on stdout.

    A new webhook is told what happens from now on; see `replay` for what was before.
    """
    request = pb.SetWebhookRequest(
        request_id=new_request_id(),
        url=url,
        kinds=[pb.WebhookKind.Value(f"WEBHOOK_KIND_{kind.name}") for kind in kinds or []],
        new_secret=new_secret,
    )
    response = connect(context).webhooks.SetWebhook(request)
    if as_json:
        print_json(response)
        return
    aside = error_console()
    if response.secret_withheld:
        aside.print(
            "The webhook is set, but its secret got lost on the way and is never shown twice; "
            "make another with --new-secret."
        )
        raise typer.Exit(1)
    aside.print(f"Events after #{response.webhook.delivered_position:,} go to the webhook.")
    if response.secret:
        aside.print("The secret that signs them, shown only now:\n")
        console().print(response.secret, soft_wrap=True)
        aside.print("\n[dim]How to check a signature: docs/how-to/webhooks.md[/]")


def replay(
    context: typer.Context,
    first: Annotated[int, typer.Option("--from", metavar="POSITION", help="The first event to deliver again.")],
    as_json: AsJson = False,
) -> None:
    """Deliver again, in order, from a position of the log on (admins)."""
    request = pb.ReplayWebhookRequest(request_id=new_request_id(), from_position=first)
    response = connect(context).webhooks.ReplayWebhook(request)
    if as_json:
        print_json(response)
    else:
        console().print(f"Everything from #{first:,} on is delivered again.")


def remove(context: typer.Context, yes: Yes = False, as_json: AsJson = False) -> None:
    """End the deliveries (admins). What was not delivered yet is given up."""
    platform = connect(context)
    if not yes:
        found = platform.webhooks.GetWebhook(pb.GetWebhookRequest())
        if not found.HasField("webhook"):
            raise CliError("there is no webhook; nothing was removed")
        if not typer.confirm(f"Stop telling {found.webhook.url} what happens?", err=True):
            raise CliError("nothing was removed")
    response = platform.webhooks.RemoveWebhook(pb.RemoveWebhookRequest(request_id=new_request_id()))
    if as_json:
        print_json(response)
    else:
        console().print("The webhook is removed.")


def _print(webhook: pb.Webhook) -> None:
    kinds = ", ".join(fmt.words(pb.WebhookKind, kind, "WEBHOOK_KIND_") for kind in webhook.kinds)
    rows: list[tuple[str, str | Text]] = [
        ("url", webhook.url),
        ("kinds", kinds or "all"),
        ("delivered", f"up to #{webhook.delivered_position:,}"),
    ]
    if webhook.failures_in_a_row:
        wait_ms = webhook.next_try_at_ms - PlatformClock().now_ms()
        again = f"next try in {fmt.duration(wait_ms)}" if wait_ms > 0 else "tried again now"
        failed = f"✘ {fmt.count(webhook.failures_in_a_row, 'failure')} in a row: {webhook.last_failure}; {again}"
        rows.append(("state", Text(failed, "red")))
    else:
        rows.append(("state", Text("✔ deliveries succeed", "green")))
    console().print(facts(*rows))
