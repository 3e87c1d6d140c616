"""The embedded PostgreSQL and NATS by themselves."""

import asyncio
import os
import signal
import stat
import tempfile
from pathlib import Path

import asyncpg
import pytest
from nats import connect as connect_nats

from deploy.local import postgres_programs
from deploy.local.ports import free_port
from deploy.local.postgres import EmbeddedPostgres, servers_in
from deploy.local.process import launch_argv
from deploy.local.supervised import Supervised, answers
from tests.support.eventually import eventually
from tests.support.platform import DatabaseUrls, SharedNats


async def test_each_service_owns_its_schema_and_no_other(database: DatabaseUrls) -> None:
    connection = await asyncpg.connect(database.quota)
    try:
        await connection.execute("CREATE TABLE quota.mine (n int)")
        for other in ("eventlog", "scheduler", "metrics", "public"):
            try:
                await connection.execute(f"CREATE TABLE {other}.theirs (n int)")
            except asyncpg.InsufficientPrivilegeError:
                continue
            raise AssertionError(f"tether_quota may create tables in {other}")
        assert await connection.fetchval("SELECT pg_has_role('tether_quota', 'tether_service', 'member')")
    finally:
        await connection.close()


ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL under another account")


@pytest.fixture
def closed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PostgreSQL's programs below a folder that only root may enter, as in a clone in root's home."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    copy = postgres_programs.copy_wheel(postgres_programs.wheel_programs(), closed)
    monkeypatch.setattr(postgres_programs, "wheel_programs", lambda: copy)
    return closed


@ROOT_ONLY
async def test_programs_below_a_closed_folder_are_copied_beside_the_data(closed_wheel: Path, open_folder: Path) -> None:
    cluster = EmbeddedPostgres(open_folder / "postgres", free_port(), "password")
    supervised = Supervised(await cluster.prepare(), open_folder / "log")
    assert Path(supervised.program.argv[0]).is_relative_to(open_folder / "postgres" / "program")
    await supervised.start()
    await supervised.stop()
    await cluster.release()
    assert sorted(path.name for path in (open_folder / "postgres").iterdir()) == ["data"]


@ROOT_ONLY
async def test_programs_and_data_below_a_closed_folder_work_and_nothing_stays_outside(
    closed_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_folder: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))
    killed = EmbeddedPostgres(closed_wheel / "postgres", free_port(), "password")
    await killed.prepare()
    assert len(list(open_folder.iterdir())) == 1, "as a killed supervisor leaves it"

    cluster = EmbeddedPostgres(closed_wheel / "postgres", free_port(), "password")
    supervised = Supervised(await cluster.prepare(), tmp_path / "log")
    await supervised.start()
    [copy] = open_folder.iterdir()
    assert Path(supervised.program.argv[0]).is_relative_to(copy)
    await supervised.stop()
    await cluster.release()
    assert list(open_folder.iterdir()) == []
    assert stat.S_IMODE(closed_wheel.stat().st_mode) == 0o700


async def test_a_pid_file_that_names_a_stranger_does_not_keep_postgres_from_starting(tmp_path: Path) -> None:
    """After a crash its old process id may be anyone's; PostgreSQL by itself then refuses to start for ever."""
    cluster = EmbeddedPostgres(tmp_path / "postgres", free_port(), "password")
    supervised = Supervised(await cluster.prepare(), tmp_path / "log")
    await supervised.start()
    pid_file = cluster.data / "postmaster.pid"
    kept = pid_file.read_text()
    await supervised.stop()
    # Of the same user, because PostgreSQL itself sees through the others.
    stranger = await asyncio.create_subprocess_exec(*launch_argv(["/bin/sleep", "600"], supervised.program.account))
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *kept.splitlines()[1:]]) + "\n")
        await supervised.start()
        await supervised.stop()
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_children_of_a_killed_postmaster_do_not_keep_it_from_starting(tmp_path: Path) -> None:
    cluster = EmbeddedPostgres(tmp_path / "postgres", free_port(), "password")
    supervised = Supervised(await cluster.prepare(), tmp_path / "log")
    await supervised.start()
    busy = await asyncpg.connect(cluster.url("postgres"))
    # Within one long computation a server process does not notice the death of its parent.
    work = asyncio.create_task(busy.execute("DO $$ BEGIN LOOP END LOOP; END $$", timeout=60))
    await eventually(lambda: busy.get_server_pid() in [server.pid for server in servers_in(cluster.data)])
    postmaster = supervised.identity
    assert postmaster is not None
    postmaster.signal(signal.SIGKILL)
    try:
        await eventually(lambda: answers(supervised.program), 15, "the next postmaster")
        assert supervised.restarts == 1
    finally:
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await work
        await supervised.stop()
    assert servers_in(cluster.data) == []


async def test_nats_refuses_who_has_no_password(nats: SharedNats) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(nats.url.rsplit(":", 1)[1]))
    try:
        assert (await reader.readline()).startswith(b"INFO ")
        writer.write(b'CONNECT {"user":"tether","pass":"guess"}\r\nPING\r\n')
        assert await reader.readline() == b"-ERR 'Authorization Violation'\r\n"
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_shared_server_that_is_stopped_starts_with_its_data(own_nats: SharedNats) -> None:
    await own_nats.stop()
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", int(own_nats.url.rsplit(":", 1)[1]))
    await own_nats.start()
    client = await connect_nats(own_nats.url)
    await client.close()
