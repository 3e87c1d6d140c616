"""`tether backup`, `tether restore` and `tether log renew-id`."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.local.archive import Manifest, reading
from deploy.local.archive import Progress as Told
from deploy.local.backup import Say, backup
from deploy.local.database import TIMEOUT_S
from deploy.local.errors import LocalError
from deploy.local.home import default_home
from deploy.local.parameters import DataDir, home_of, refused
from deploy.local.restore import restore
from services.eventlog.log_id import renew

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]

_URL = "TETHER_POSTGRES_URL"


def register(app: typer.Typer) -> None:
    """Adds the commands to the `tether` program."""
    app.command("backup", rich_help_panel="Platform")(backup_)
    app.command("restore", rich_help_panel="Platform")(restore_)
    log = typer.Typer(no_args_is_help=True)
    # A callback keeps `renew-id` a command of its own while it is the only one.
    log.callback()(_group)
    log.command("renew-id")(renew_id)
    app.add_typer(log, name="log", help="The event log's database (operators).", rich_help_panel="Platform")


def backup_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; it will hold secrets.")],
    data_dir: DataDir = None,
    with_artifacts: Annotated[bool, typer.Option("--with-artifacts", help="Checkpoints and exports as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the whole platform of this machine into one file, while it goes on working.

    Example:  tether backup tether-monday.backup
    """
    try:
        with _progress("writing") as (say, told):
            manifest, missing = asyncio.run(backup(home_of(data_dir), file, with_artifacts, say, told))
    except LocalError as error:
        raise refused(error) from None
    size = file.stat().st_size
    if as_json:
        facts = {"file": str(file), "bytes": size, **_facts(manifest), "missing_artifacts": missing}
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"{file}: {size / 2**20:,.1f} MiB, everything up to event #{manifest.position:,}")
    if missing:
        shown = f"{missing[0]}{' and others' if len(missing) > 1 else ''}"
        typer.echo(
            f"Artifacts that are not in it: {len(missing)} ({shown}); they were dropped meanwhile, or the platform's "
            "artifact store does not have them."
        )
    typer.echo("It opens the platform to whoever reads it: keep it where only you can, away from this machine.")


def restore_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `tether backup` wrote.", dir_okay=False)],
    data_dir: DataDir = None,
    force: Annotated[
        bool, typer.Option("--force", help="In place of the platform that is there, which is moved aside.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a platform from a backup, in an empty folder or with --force in place of a stopped one.

    Example:  tether restore tether-monday.backup --data-dir ./restored
    """
    home = home_of(data_dir)
    try:
        with reading(file) as archive:
            # Everything is read twice: checked, then restored.
            total = 2 * archive.size()
        with _progress("restoring", total) as (say, told):
            manifest, log_id = asyncio.run(restore(home, file, force, say, told))
    except LocalError as error:
        raise refused(error) from None
    if as_json:
        typer.echo(json.dumps({"data_dir": str(home.root), **_facts(manifest), "log_id": log_id}, indent=2))
        return
    typer.echo(f"restored everything up to event #{manifest.position:,}, as of {manifest.made_at}, into {home.root}")
    flag = "" if home.root == default_home() else f" --data-dir {home.root}"
    typer.echo(f"Next: tether up{flag}")


def renew_id(
    postgres_url: Annotated[
        str, typer.Option(envvar=_URL, show_default=False, help="As the role tether_eventlog, or a superuser.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Give the log of a PostgreSQL of your own a new id, after you restored it or promoted a standby.

    Whoever read the log under the old id rebuilds what he knows. `tether restore` does this by itself.

    Example:  TETHER_POSTGRES_URL=postgresql://tether_eventlog:…@db/tether tether log renew-id
    """
    if not postgres_url:
        raise refused(LocalError(f"there is no database to renew; set {_URL} to the URL of the role tether_eventlog"))
    try:
        log_id = asyncio.run(_renew(postgres_url))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        raise refused(LocalError(f"the log's id is as it was: {error}; check {_URL}")) from None
    typer.echo(json.dumps({"log_id": log_id}) if as_json else f"the log has the id {log_id} from now on")


async def _renew(url: str) -> str:
    connection = await asyncpg.connect(url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
    try:
        return await renew(connection)
    finally:
        await connection.close(timeout=TIMEOUT_S)


def _facts(manifest: Manifest) -> dict[str, object]:
    return {name: value for name, value in asdict(manifest).items() if name not in ("sha256", "format", "schemas")}


@contextmanager
def _progress(doing: str, total: int | None = None) -> Iterator[tuple[Say, Told]]:
    """A bar on stderr where somebody looks at it; what is said comes above it."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(doing, total=total)
        yield (lambda line: console.print(escape(line))), (lambda done: shown.advance(task, done))


def _group() -> None:
    pass
