"""SQL over an export: each event type is a view, `events` are all envelopes, minutes.sql adds what they cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.client import manifest as manifests
from services.client.errors import NotInstalled, QueryFailed
from services.client.manifest import Manifest
from services.eventlog.catalogue import EVENTS

if TYPE_CHECKING:
    import duckdb

MINUTES = Path(__file__).parent / "minutes.sql"

# What the query works in; it spills to the export's folder beyond.
_MEMORY = "2GB"


@dataclass(frozen=True, slots=True)
class View:
    name: str
    # Name and SQL type of each column, in order.
    columns: tuple[tuple[str, str], ...]


class Database:
    """Made by `open_database`; in memory, over files that it never writes."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", manifest: Manifest) -> None:
        self._connection, self.manifest = connection, manifest

    def views(self) -> list[View]:
        """What can be asked about: the log's views in the order in which minutes.sql and the catalogue name them."""
        rows = self._connection.execute(
            "select v.view_name, c.column_name, c.data_type from duckdb_views() v join duckdb_columns() c "
            "on c.table_name = v.view_name where not v.internal and not c.internal "
            "order by v.view_oid, c.column_index"
        ).fetchall()
        views: dict[str, list[tuple[str, str]]] = {}
        for view, column, kind in rows:
            views.setdefault(view, []).append((column, kind))
        return [View(name, tuple(columns)) for name, columns in views.items()]

    def query(self, text: str) -> "Result":
        """Run one or more statements; the last one's rows. Raises QueryFailed with one sentence."""
        import duckdb

        try:
            relation = self._connection.sql(text)
            return Result(relation.to_arrow_reader(10_000) if relation is not None else None)
        except duckdb.Error as error:
            raise QueryFailed(_sentence(error)) from None


class Result:
    """Rows as Python values, read once, batch by batch. Raises QueryFailed where a row cannot be computed."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.columns: list[str] = [] if reader is None else list(reader.schema.names)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        import duckdb
        import pyarrow as pa

        if self._reader is None:
            return
        try:
            for batch in self._reader:
                yield from zip(*(column.to_pylist(maps_as_pydicts="strict") for column in batch.columns), strict=True)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise QueryFailed(_sentence(error)) from None


@contextmanager
def open_database(folder: Path) -> Iterator[Database]:
    """The export in `folder`, ready to be asked. Raises QueryFailed where there is none in Parquet."""
    try:
        import duckdb
        import pyarrow  # noqa: F401
    except ImportError:
        raise NotInstalled("SQL over the log") from None
    manifest = manifests.read(folder)
    if manifest is None:
        raise QueryFailed(f"{folder} holds no export; make one with `tether events export --out {folder}`")
    if manifest.selection.format != "parquet":
        raise QueryFailed(
            f"{folder} holds an export as {manifest.selection.format}; SQL needs one made with --format parquet"
        )
    connection = duckdb.connect(
        ":memory:",
        # Nothing is fetched from anywhere: what is needed is built in.
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": _MEMORY,
            "temp_directory": str(folder / ".spill"),
        },
    )
    try:
        # Days, weeks and months are those of UTC, as in every invoice.
        connection.execute("set TimeZone = 'UTC'")
        _create_views(connection, folder, manifest)
        connection.execute(MINUTES.read_text())
        yield Database(connection, manifest)
    finally:
        connection.close()


def _create_views(connection: "duckdb.DuckDBPyConnection", folder: Path, manifest: Manifest) -> None:
    from services.client.columns import ENVELOPE_NAMES, schema

    found: dict[str, list[str]] = {}
    for part in manifest.parts:
        found.setdefault(part.kind, []).append(str(folder / part.file))
    for type_ in (*EVENTS, *sorted(found.keys() - EVENTS.keys())):
        if type_ in found:
            files = ", ".join(_literal(file) for file in found[type_])
            # Parts that an earlier version wrote may lack a column, which is null then.
            connection.execute(f'create view "{type_}" as select * from read_parquet([{files}], union_by_name => true)')
        else:
            connection.register(f"no {type_}", schema(type_).empty_table())
            connection.execute(f'create table "none of {type_}" as select * from "no {type_}"')
            connection.unregister(f"no {type_}")
            connection.execute(f'create view "{type_}" as select * from "none of {type_}"')
    envelope = ", ".join(ENVELOPE_NAMES)
    of_types = (f'select {_literal(type_)} as type, {envelope} from "{type_}"' for type_ in found or EVENTS)
    connection.execute(f"create view events as {' union all '.join(of_types)}")


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def _sentence(error: Exception) -> str:
    """DuckDB's first line, with what it proposes instead."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [lines[0] if lines else type(error).__name__]
    kept += [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))]
    return "the query failed: " + "; ".join(line.rstrip(".!") for line in kept)
