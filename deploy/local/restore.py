"""Makes a platform again from the file of a backup, under a new log id."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import asyncpg

import services
from deploy.local.archive import ARTIFACTS, DUMP, PORTS, SECRETS, Archive, Manifest, Progress, reading
from deploy.local.backup import Say, alone
from deploy.local.credentials import load_or_make
from deploy.local.database import SERVICES, TIMEOUT_S, create_database, create_roles
from deploy.local.dump import restore as fill
from deploy.local.errors import LocalError
from deploy.local.home import Home
from deploy.local.lock import take_lock
from deploy.local.platform import DATABASE
from services.eventlog.log_id import renew


async def restore(home: Home, file: Path, force: bool, say: Say, progress: Progress) -> tuple[Manifest, str]:
    """Returns what was restored, and the log's new id. Raises LocalError.

    The platform is built aside and takes its place in the end; one that was there is moved aside, never deleted. A
    restore that is killed leaves a folder that `tether up` refuses and the next restore takes away.
    """
    with reading(file) as archive:
        _refuse_newer(archive)
        home.prepare()
        with take_lock(home):
            if home.holds_platform and not force:
                raise LocalError(
                    f"{home.root} holds a platform; name an empty folder with --data-dir, or put the restored one in "
                    "its place with --force (the old one is moved aside)"
                )
            say("checking the backup")
            archive.verify(progress)
            try:
                log_id = await _build(Home(home.restoring), archive, say, progress)
            except BaseException:
                # Nothing has taken its place yet: the folder is as it was.
                shutil.rmtree(home.restoring, ignore_errors=True)
                raise
            _take_place(home, archive.manifest, say)
    return archive.manifest, log_id


def _refuse_newer(archive: Archive) -> None:
    """Tables of a newer version cannot be understood; older ones are brought up to date by the services' start."""
    for service, found in archive.manifest.schemas.items():
        folder = Path(services.__path__[0]) / service / "migrations"
        known = max((int(one.name.split("_", 1)[0]) for one in folder.glob("*.sql")), default=0)
        if found > known:
            raise LocalError(
                f"{archive.file} was made by a newer tether ({archive.manifest.tether}); install that version first"
            )


async def _build(building: Home, archive: Archive, say: Say, progress: Progress) -> str:
    """The whole platform in a folder of its own; returns the log's new id."""
    shutil.rmtree(building.root, ignore_errors=True)
    building.root.mkdir(mode=0o700)
    for name in archive.names():
        if name in (SECRETS, PORTS):
            archive.extract(name, building.root / name)
        elif name.startswith(ARTIFACTS):
            archive.extract(name, _inside(building.artifacts, name.removeprefix(ARTIFACTS)))
    credentials = load_or_make(building.secrets)
    say("filling a new database")
    log = building.root / "postgres.log"
    async with alone(building.postgres, credentials.postgres_superuser, log, say) as postgres:
        url = postgres.url(DATABASE)
        await create_database(postgres.url("postgres"), DATABASE)
        await create_roles(url, credentials.postgres_services)
        connection = await asyncpg.connect(url, timeout=TIMEOUT_S)
        try:
            # The dump brings the schemas with their owners and grants.
            await connection.execute(f"drop schema {', '.join(SERVICES)}")
            await fill(url, _told(archive, progress))
            log_id = await renew(connection)
            await connection.execute("analyze")
        finally:
            await connection.close(timeout=TIMEOUT_S)
    log.unlink()
    return log_id


def _told(archive: Archive, progress: Progress) -> Iterator[bytes]:
    for chunk in archive.chunks(DUMP):
        progress(len(chunk))
        yield chunk


def _inside(folder: Path, name: str) -> Path:
    """Raises LocalError for a name that leads out of the folder."""
    path = folder / name
    if ".." in path.parts or Path(name).is_absolute():
        raise LocalError(f"the backup names a file outside of its folder ({name}); it was not made by `tether backup`")
    return path


def _take_place(home: Home, manifest: Manifest, say: Say) -> None:
    # NATS starts empty: what it holds is of the other log. Artifacts stay unless the backup has its own.
    replaced = [home.postgres, home.nats, home.secrets, home.ports, home.client]
    replaced += [home.artifacts] if manifest.artifacts else []
    there = [one for one in replaced if one.exists() and not (one.is_dir() and not any(one.iterdir()))]
    if there:
        aside = next(one for n in count(1) if not (one := home.root / f"before-restore-{n}").exists())
        aside.mkdir(mode=0o700)
        for one in there:
            one.rename(aside / one.name)
        say(f"the platform that was here lies in {aside}; delete that folder when you do not need it any more")
    building = Home(home.restoring)
    for one in (building.postgres, building.secrets, building.ports, building.artifacts):
        if one.exists():
            target = home.root / one.name
            if target.is_dir():
                # An empty one; what had something in it was moved aside.
                target.rmdir()
            one.rename(target)
    shutil.rmtree(building.root)
