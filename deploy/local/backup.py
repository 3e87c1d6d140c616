"""Backup of a platform on this machine, while it runs or while it is stopped."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import asyncpg

from deploy.local.archive import ARTIFACTS, DUMP, PORTS, SECRETS, Manifest, Progress, Writer, writing
from deploy.local.credentials import load_or_make
from deploy.local.database import SERVICES, TIMEOUT_S
from deploy.local.dump import dump
from deploy.local.errors import LocalError
from deploy.local.home import Home
from deploy.local.lock import take_lock
from deploy.local.platform import DATABASE
from deploy.local.ports import free_port, remembered
from deploy.local.postgres import SUPERUSER, EmbeddedPostgres
from deploy.local.state import running
from deploy.local.supervised import Supervised
from services.metrics.artifacts_rows import READY, key_of

Say = Callable[[str], None]


async def backup(
    home: Home, file: Path, with_artifacts: bool, say: Say, progress: Progress
) -> tuple[Manifest, list[str]]:
    """Write one file from which `restore` makes the same platform again; nothing waits for it meanwhile.

    The database is as of one moment, whatever is appended while it is written. Returns what is in it, and the names of
    artifacts that were to be in it and are not: dropped meanwhile, or kept elsewhere. Raises LocalError.
    """
    if not home.secrets.exists() or not (home.postgres / "data").exists():
        raise LocalError(f"there is no platform in {home.root}; name its folder with --data-dir")
    home.refuse_half_restored()
    missing: list[str] = []
    with writing(file) as archive:
        async with _database(home, say) as url, _snapshot(url) as (connection, snapshot, manifest):
            stored = await read_stored(connection) if with_artifacts else {}
            await archive.stream(DUMP, dump(url, snapshot), progress)
        archive.copy(SECRETS, home.secrets, progress)
        if home.ports.exists():
            archive.copy(PORTS, home.ports, progress)
        if with_artifacts:
            missing = copy_artifacts(archive, home.artifacts, stored, progress)
        done = Manifest(**{**vars(manifest), "artifacts": with_artifacts, "sha256": archive.sha256})
        archive.finish(done)
    return done, missing


async def read_stored(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """Files that the platform has, by their names below its artifact store, and the bytes of each."""
    rows = await connection.fetch(
        "select workspace_id, job_id, artifact_id, name, bytes from metrics.artifacts where state = $1", READY
    )
    return {key_of(row): row["bytes"] for row in rows}


def copy_artifacts(archive: Writer, folder: Path, stored: Mapping[str, int], progress: Progress) -> list[str]:
    """Returns those that are not in the folder, or not whole. Raises LocalError where it has none of them."""
    missing = []
    for name, size_bytes in sorted(stored.items()):
        path = folder / name
        try:
            if path.is_symlink() or path.stat().st_size != size_bytes:
                raise FileNotFoundError
            archive.copy(ARTIFACTS + name, path, progress)
        except FileNotFoundError:
            missing.append(name)
    if missing and len(missing) == len(stored):
        raise LocalError(
            f"none of the {len(stored)} artifacts of the platform lies in {folder}, so it keeps them elsewhere (the "
            "setting TETHER_ARTIFACT_STORE of `tether up`); back that up, and leave --with-artifacts out"
        )
    return missing


@asynccontextmanager
async def _database(home: Home, say: Say) -> AsyncIterator[str]:
    """The superuser's URL of the platform's database; of a stopped platform PostgreSQL is started for as long."""
    password = load_or_make(home.secrets).postgres_superuser
    state = running(home.state)
    if state is not None:
        if state.phase != "running":
            raise LocalError(f"the platform in {home.root} is {state.phase}; try again in a moment")
        port = remembered(home.ports)["postgres"]
        yield f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{DATABASE}"
        return
    with take_lock(home):
        async with alone(home.postgres, password, home.log("postgres"), say) as postgres:
            yield postgres.url(DATABASE)


@asynccontextmanager
async def alone(folder: Path, password: str, log: Path, say: Say) -> AsyncIterator[EmbeddedPostgres]:
    """PostgreSQL without the rest of the platform, stopped in the end."""
    postgres = EmbeddedPostgres(folder, free_port(), password)
    process = Supervised(await postgres.prepare(), log, say=say)
    await process.start()
    try:
        yield postgres
    finally:
        await process.stop()
        await postgres.release()


@asynccontextmanager
async def _snapshot(url: str) -> "AsyncIterator[tuple[asyncpg.Connection[asyncpg.Record], str, Manifest]]":
    """A moment of the database that pg_dump can see as well, and what the log was then."""
    connection = await asyncpg.connect(url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow(
                "select pg_export_snapshot() as snapshot, log_id::text, current_setting('server_version') as postgres, "
                "(select coalesce(max(position), 0) from eventlog.events) as position, "
                """to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as made_at from eventlog.log"""
            )
            assert row is not None  # the table `log` has one row
            manifest = Manifest(
                tether=version("tether"),
                postgres=row["postgres"],
                made_at=row["made_at"],
                log_id=row["log_id"],
                position=row["position"],
                schemas={
                    service: await connection.fetchval(f"select max(version) from {service}.schema_version")
                    for service in SERVICES
                },
                artifacts=False,
            )
            yield connection, row["snapshot"], manifest
    except asyncpg.UndefinedTableError:
        raise LocalError("the platform has not finished its first start yet; run `tether up` first") from None
    finally:
        await connection.close(timeout=TIMEOUT_S)
