"""`tether events sql`: questions about the log, answered on this machine."""

import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from services.cli.connection import Platform, connect
from services.cli.errors import CliError
from services.cli.events_export import watched
from services.cli.output import console, error_console
from services.cli.settings import environment, home
from services.cli.tables import table

if TYPE_CHECKING:
    from services.client.sql import Database, Result

EXAMPLES = (
    "Examples: tether events sql\n\n"
    'tether events sql "select type, count(*) from events group by all order by 2 desc"\n\n'
    'tether events sql --dir log --format csv "select * from minutes"'
)

_FORMATS = ("table", "json", "csv")
# Copies of the log that are kept besides the one that is asked.
_OTHER_COPIES = 3
# More than a person reads; the other formats print all.
_MOST_ROWS = 1000


def sql(
    context: typer.Context,
    query: Annotated[
        str, typer.Argument(metavar="[QUERY]", show_default=False, help="SQL; without it the views are listed.")
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            show_default=False,
            help="An export in Parquet. Otherwise the log itself: a copy on this machine is brought up to date first.",
        ),
    ] = None,
    format_: Annotated[str, typer.Option("--format", metavar="table|json|csv")] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="As --format json: an array of objects.")] = False,
) -> None:
    """Ask the log in SQL (DuckDB). Each event type is a view; `events` are all, `minutes` what trainings cost."""
    format_ = "json" if as_json else format_
    if format_ not in _FORMATS:
        raise CliError(f"--format {format_!r} is none of {', '.join(_FORMATS)}")
    from services.client.sql import open_database

    with open_database(folder or _brought_up_to_date(connect(context))) as database:
        if not query.strip():
            _list(database, format_)
            return
        with error_console().status("asking…"):
            result = database.query(query)
        _PRINT[format_](result)


def _brought_up_to_date(platform: Platform) -> Path:
    """The copy of what this token may read of this platform's log, with all that is new."""
    from services.client import manifest as manifests
    from services.client.errors import ExportRuns, LogReplaced
    from services.client.export import export, remove
    from services.client.log import Log
    from services.client.manifest import Selection

    settings = platform.settings
    named = f"{settings.endpoints['eventlog']} {settings.token}"
    folder = home(environment()) / "exports" / hashlib.sha256(named.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with watched() as watch:
        for _ in range(2):
            try:
                export(Log(platform), folder, Selection("parquet"), tell=watch.tell, stopping=watch.stopping)
            except LogReplaced:
                # The copy of a log that is no more.
                remove(folder)
                folder.mkdir(mode=0o700)
                continue
            except ExportRuns:
                if manifests.read(folder) is None:
                    raise
            break
    if watch.stopping():
        raise KeyboardInterrupt
    _prune(folder)
    return folder


def _prune(used: Path) -> None:
    """Remove the copies that were not used for longest, of other platforms or earlier tokens."""
    from services.client.errors import ExportRuns
    from services.client.export import remove

    used.touch()
    others = sorted((one for one in used.parent.iterdir() if one != used), key=lambda one: one.stat().st_mtime)
    for oldest in others[: -_OTHER_COPIES or None]:
        with suppress(ExportRuns):
            remove(oldest)


def _list(database: "Database", format_: str) -> None:
    """The views with their columns."""
    views = database.views()
    if format_ == "json":
        print(json.dumps({view.name: dict(view.columns) for view in views}, indent=2))
        return
    if format_ == "csv":
        _csv(("view", "column", "type"), ((view.name, *column) for view in views for column in view.columns))
        return
    made = table("view", "columns", keep=("view",))
    for view in views:
        columns = Text(", ").join(Text(name).append(f" {_short(kind)}", "dim") for name, kind in view.columns)
        made.add_row(Text(view.name, "bold"), columns)
    console().print(made)
    console().print(
        "[dim]Functions of a moment (Unix milliseconds): charges_at, charges_cut_at, minutes_at, cut_off_at.[/]"
    )


def _short(kind: str) -> str:
    return kind if len(kind) <= 30 else kind[:29] + "…"


def _print_table(result: "Result") -> None:
    rows = list(islice(result, _MOST_ROWS + 1))
    if not result.columns:
        console().print("Done.")
        return
    numbers = tuple(
        name
        for at, name in enumerate(result.columns)
        if any(isinstance(row[at], int | float | Decimal) and not isinstance(row[at], bool) for row in rows)
    )
    made = table(*result.columns, right=numbers)
    for row in rows[:_MOST_ROWS]:
        made.add_row(*(Text(_shown(value)) for value in row))
    console().print(made)
    if len(rows) > _MOST_ROWS:
        error_console().print(f"[dim]… the first {_MOST_ROWS} rows; --format csv or json prints all.[/]")
    elif not rows:
        error_console().print("[dim]No row.[/]")


def _print_json(result: "Result") -> None:
    """An array of objects, a row a line."""
    print("[", end="")
    for number, row in enumerate(result):
        document = json.dumps(dict(zip(result.columns, map(_plain, row), strict=True)), ensure_ascii=False)
        print(",\n" if number else "\n", document, sep="", end="")
    print("\n]")


def _print_csv(result: "Result") -> None:
    _csv(result.columns, ([_cell(value) for value in row] for row in result))


def _csv(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(headings)
    out.writerows(rows)


_PRINT = {"table": _print_table, "json": _print_json, "csv": _print_csv}


def _shown(value: Any) -> str:
    return "" if value is None else str(_cell(value))


def _cell(value: Any) -> Any:
    plain = _plain(value)
    if isinstance(plain, dict | list):
        return json.dumps(plain, ensure_ascii=False)
    return str(plain).lower() if isinstance(plain, bool) else plain


def _plain(value: Any) -> Any:
    """What JSON has: exact integers, moments as ISO 8601, bytes in hexadecimal."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)
