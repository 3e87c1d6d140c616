"""The file of a backup: what is in it, and what becomes of one that is damaged, too new or in the way."""

from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from deploy.local.archive import DUMP, SECRETS, Manifest, writing
from deploy.local.backup import copy_artifacts, read_stored
from deploy.local.credentials import load_or_make
from deploy.local.errors import LocalError
from deploy.local.home import Home
from deploy.local.platform import Platform
from deploy.local.restore import restore
from services.eventlog.bootstrap import MIGRATIONS as LOG_MIGRATIONS
from services.eventlog.bootstrap import Settings as LogSettings
from services.metrics.artifacts_rows import PENDING, READY
from services.metrics.bootstrap import MIGRATIONS, Settings
from services.rpc.kernel import open_kernel
from tests.support.platform import DatabaseUrls


def archive_in(folder: Path, schema: int = 1, text: str | None = "no dump") -> Path:
    """A whole backup, as far as its own sums say. `text`: what its parts hold; None: what lies in `content`."""
    content = folder / "content"
    if text is not None:
        content.write_text(text)
    with writing(folder / "one.backup") as archive:
        archive.copy(DUMP, content, lambda done: None)
        archive.copy(SECRETS, content, lambda done: None)
        archive.finish(Manifest("0", "18", "2026", "id", 1, {"eventlog": schema}, False, archive.sha256))
    return folder / "one.backup"


async def refused(home: Home, file: Path) -> str:
    with pytest.raises(LocalError) as error:
        await restore(home, file, False, lambda line: None, lambda done: None)
    return str(error.value)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda data: data.replace(b"no dump", b"no dumb", 1), "is damaged; take another backup, nothing was changed"),
        (lambda data: data[:-30], "is no whole backup; name a file that `tether backup` wrote"),
        (lambda data: b"", "is no whole backup; name a file that `tether backup` wrote"),
    ],
)
async def test_a_file_that_is_not_what_was_written_changes_nothing(
    tmp_path: Path, spoil: Callable[[bytes], bytes], sentence: str
) -> None:
    file, home = archive_in(tmp_path), Home(tmp_path / "home")
    file.write_bytes(spoil(file.read_bytes()))
    assert sentence in await refused(home, file)
    assert not home.holds_platform
    home.refuse_half_restored()


async def test_a_backup_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    assert "was made by a newer tether" in await refused(Home(tmp_path / "home"), archive_in(tmp_path, schema=99))


async def test_a_restore_never_takes_the_place_of_a_platform_unasked(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    home.secrets.write_text("{}")
    assert "holds a platform; name an empty folder with --data-dir, or put" in await refused(home, archive_in(tmp_path))
    assert home.secrets.read_text() == "{}"


async def test_a_database_that_cannot_be_filled_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    load_or_make(tmp_path / "content")
    home = Home(tmp_path / "home")
    assert "pg_restore failed: pg_restore: error: input file " in await refused(home, archive_in(tmp_path, text=None))
    home.refuse_half_restored()
    assert not home.holds_platform


async def test_a_platform_does_not_start_on_half_a_restore(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    home.restoring.mkdir()
    with pytest.raises(LocalError, match="did not come to its end; run it again: tether restore FILE --force"):
        await Platform(home).start()
    assert not home.postgres.exists()


def test_a_backup_that_fails_leaves_no_file_and_none_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing(tmp_path / "one.backup"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    file = archive_in(tmp_path)
    before = file.read_bytes()
    with pytest.raises(LocalError, match="is there already; name another file"), writing(file):
        pass
    assert file.read_bytes() == before


async def test_the_artifacts_of_the_moment_are_in_the_backup_and_what_is_missing_is_told(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    await (await open_kernel(LogSettings(postgres_url=database.eventlog), "eventlog", LOG_MIGRATIONS)).close()
    await (await open_kernel(Settings(postgres_url=database.metrics), "metrics", MIGRATIONS)).close()
    connection = await asyncpg.connect(database.admin)
    try:
        for name, state, size in (("a", READY, 3), ("b", READY, 3), ("c", READY, 3), ("d", PENDING, 3), ("e", 4, 3)):
            await connection.execute(
                "insert into metrics.artifacts (artifact_id, workspace_id, job_id, attempt_id, kind, name, state, "
                "bytes, created_at_ms) values ($1, 'ws', 'jb', 'at', 1, $1, $2, $3, 0)",
                name,
                state,
                size,
            )
        stored = await read_stored(connection)
    finally:
        await connection.close()
    folder = tmp_path / "artifacts"
    for name, content in (("a", "abc"), ("b", "ab"), ("d", "abc"), ("e", "abc")):
        path = folder / f"ws/jb/{name}/{name}"
        path.parent.mkdir(parents=True)
        path.write_text(content)
    with writing(tmp_path / "one.backup") as archive:
        # The second one is not whole, the third one is not there.
        missing = copy_artifacts(archive, folder, stored, lambda done: None)
        assert list(archive.sha256) == ["artifacts/ws/jb/a/a"]
    assert missing == ["ws/jb/b/b", "ws/jb/c/c"]
    with (
        pytest.raises(LocalError, match=r"none of the 3 artifacts .* leave --with-artifacts out"),
        writing(tmp_path / "two.backup") as archive,
    ):
        copy_artifacts(archive, tmp_path / "elsewhere", stored, lambda done: None)
    assert not (tmp_path / "two.backup").exists()
