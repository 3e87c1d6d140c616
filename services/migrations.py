"""Applies a service's schema migrations: SQL files, in order, each once, safely from several processes at once."""

from pathlib import Path

from services.postgres import Connection

# One lock for all schemas: the eventlog's migration grants what the others' start needs.
_LOCK = 7301002


async def migrate(connection: Connection, schema: str, folder: Path) -> int:
    """Bring `schema` to the newest version in `folder` and return that version.

    Files are named `0001_what.sql`. All pending ones run in one transaction under an advisory lock, so that a crash
    leaves the old version and a second process waits and then finds nothing to do. Raises asyncpg.PostgresError.
    """
    files = sorted(folder.glob("*.sql"))
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(f"set local search_path = {schema}")
        await connection.execute(
            "create table if not exists schema_version (version int primary key, applied_at timestamptz default now())"
        )
        current: int = await connection.fetchval("select coalesce(max(version), 0) from schema_version")
        for file in files:
            version = int(file.name.split("_", 1)[0])
            if version > current:
                await connection.execute(file.read_text())
                await connection.execute("insert into schema_version (version) values ($1)", version)
                current = version
    return current
