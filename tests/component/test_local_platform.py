"""The supervisor with real PostgreSQL, real NATS, and small gRPC servers in place of the services."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import nats
import pytest

from deploy.local import gateway
from deploy.local.credentials import load_or_make
from deploy.local.errors import LocalError, StartFailed
from deploy.local.health import probe_gateway
from deploy.local.home import Home
from deploy.local.lock import AlreadyRunning
from deploy.local.platform import PROCESSES, Platform
from deploy.local.postgres import servers_in
from deploy.local.process import ProcessIdentity
from deploy.local.state import PlatformState, running
from tests.component.test_local_cli import run
from tests.support.eventually import eventually
from tests.support.health_platform import health_server_argv


def platform_in(folder: Path, said: list[str] | None = None) -> Platform:
    return Platform(Home(folder), (said if said is not None else []).append, argv=health_server_argv)


@pytest.fixture
async def small_platform(tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform_in(tmp_path / "home") as started:
        yield started


def identities(home: Home) -> dict[str, ProcessIdentity]:
    state = PlatformState.load(home.state)
    assert state is not None
    return {process.name: process.identity for process in state.processes if process.identity is not None}


async def superuser(home: Home, database: str = "tether") -> "asyncpg.Connection[asyncpg.Record]":
    port = json.loads(home.ports.read_text())["postgres"]
    password = load_or_make(home.secrets).postgres_superuser
    return await asyncpg.connect(f"postgresql://postgres:{password}@127.0.0.1:{port}/{database}", timeout=5)


async def query(home: Home, statement: str) -> object:
    connection = await superuser(home)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def jetstream_messages(home: Home, publish: bytes | None = None) -> int:
    port = json.loads(home.ports.read_text())["nats"]
    url = f"nats://tether:{load_or_make(home.secrets).nats}@127.0.0.1:{port}"
    client = await nats.connect(url, connect_timeout=2, allow_reconnect=False)
    try:
        context = client.jetstream(timeout=5)
        if publish is not None:
            await context.add_stream(name="kept", subjects=["kept"])
            await context.publish("kept", publish)
        return (await context.stream_info("kept")).state.messages
    finally:
        await client.close()


async def test_a_killed_process_comes_back_with_its_data(small_platform: Platform) -> None:
    home = small_platform.home
    await query(home, "CREATE TABLE public.kept AS SELECT 42 AS n")
    await jetstream_messages(home, publish=b"one")
    before = identities(home)

    for name in ("postgres", "nats", "scheduler"):
        before[name].signal(signal.SIGKILL)

    async def restarted() -> bool:
        now = identities(home)
        return all(name in now and now[name] != before[name] for name in ("postgres", "nats", "scheduler"))

    await eventually(restarted, 20, "a new process for each that was killed")
    assert await eventually(lambda: query(home, "SELECT n FROM public.kept"), 20, "the row") == 42
    assert await eventually(lambda: jetstream_messages(home), 20, "the message") == 1
    assert [small_platform.process(name).restarts for name in PROCESSES] == [1, 1, 0, 1, 0, 0, 0]


async def test_down_leaves_no_process_and_up_finds_everything_again(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    async with platform_in(home.root):
        first = identities(home)
        assert set(first) == set(PROCESSES)
        kept = [file.read_text() for file in (home.ports, home.secrets, home.client)]
        await query(home, "CREATE TABLE public.kept AS SELECT 42 AS n")
    assert not [name for name, identity in first.items() if identity.alive()]
    assert servers_in(home.postgres / "data") == []
    assert running(home.state) is None
    async with platform_in(home.root):
        assert [file.read_text() for file in (home.ports, home.secrets, home.client)] == kept
        assert await query(home, "SELECT n FROM public.kept") == 42


async def test_client_toml_tells_the_token_and_every_endpoint_to_its_owner_alone(small_platform: Platform) -> None:
    client = tomllib.loads(small_platform.home.client.read_text())
    assert client["token"] == "tt_of_default"
    assert client["operator_token"] == load_or_make(small_platform.home.secrets).operator_token
    assert client["endpoints"] == small_platform.endpoints
    for file in (small_platform.home.client, small_platform.home.secrets, small_platform.home.nats / "nats.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(small_platform.home.root.stat().st_mode) == 0o700


async def test_the_gateway_starts_last_and_answers(small_platform: Platform) -> None:
    assert list(identities(small_platform.home))[-1] == "gateway"
    await probe_gateway(small_platform.endpoints["gateway"])
    assert [one.name for one in small_platform.home.gateway.iterdir()] == ["envoy.json"], "no socket for administrators"


async def test_without_an_envoy_everything_but_the_page_works_and_status_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    envoy = tmp_path / "envoy"
    monkeypatch.setattr(gateway, "envoy_of_the_wheel", lambda: envoy)
    with pytest.raises(LocalError, match=r"pip install 'tether\[embedded\]'"):
        await gateway.EmbeddedGateway(tmp_path / "gateway", 1, {}).prepare()
    envoy.write_text("#!/bin/sh\necho 'version `GLIBC_2.31 not found' >&2\nexit 1\n")
    envoy.chmod(0o755)
    said: list[str] = []
    async with platform_in(tmp_path / "home", said) as started:
        reason = f"it did not start: it exited with code 1; see {started.home.log('gateway')}"
        assert said[-1] == f"there is no page and no gateway: {reason}; everything else works"
        assert "gateway" not in tomllib.loads(started.home.client.read_text())["endpoints"]
        assert set(identities(started.home)) == set(PROCESSES) - {"gateway"}
        code, shown, _ = await run("status", "--data-dir", str(started.home.root))
    assert code == 0, "nothing that the platform needs is missing"
    assert shown.splitlines()[-1] == f"gateway is unavailable: {reason}"


async def test_no_secret_stands_in_a_command_line(small_platform: Platform) -> None:
    secrets = load_or_make(small_platform.home.secrets)
    words = [secrets.postgres_superuser, secrets.nats, secrets.operator_token, *secrets.postgres_services.values()]
    for name, identity in identities(small_platform.home).items():
        line = Path(f"/proc/{identity.pid}/cmdline").read_text()
        assert not [word for word in words if word in line], name


async def test_a_second_platform_in_the_same_directory_is_refused(small_platform: Platform) -> None:
    with pytest.raises(AlreadyRunning, match=f"already running in .*process {os.getpid()}.*tether down"):
        await platform_in(small_platform.home.root).start()
    assert len(identities(small_platform.home)) == len(PROCESSES), "the first one is untouched"


async def test_a_killed_supervisor_takes_its_processes_along_and_the_next_one_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    supervisor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.health_platform", str(home.root)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert supervisor.stdout is not None
    async with asyncio.timeout(60):
        while (await supervisor.stdout.readline()) != b"ready\n":
            assert supervisor.returncode is None
    await query(home, "CREATE TABLE public.kept AS SELECT 42 AS n")
    processes = identities(home)

    supervisor.kill()
    await supervisor.communicate()

    await eventually(lambda: not [p for p in processes.values() if p.alive()], 15, "the end of all processes")
    async with platform_in(home.root):
        assert await query(home, "SELECT n FROM public.kept") == 42


async def test_what_outlived_a_killed_supervisor_is_ended_by_the_next_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    stray = await asyncio.create_subprocess_exec("sleep", "600")
    identity = ProcessIdentity.of(stray.pid)
    assert identity is not None
    async with platform_in(home.root):
        left = json.loads(home.state.read_text())
    left["processes"][-1]["identity"] = {
        "pid": identity.pid,
        "start_ticks": identity.start_ticks,
        "boot_id": identity.boot_id,
    }
    home.state.write_text(json.dumps(left))
    async with platform_in(home.root):
        assert await stray.wait() == -signal.SIGQUIT


async def test_a_pid_that_is_someone_elses_by_now_is_left_alone(tmp_path: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "600")
    identity = ProcessIdentity.of(stranger.pid)
    assert identity is not None
    earlier = ProcessIdentity(identity.pid, identity.start_ticks - 1, identity.boot_id)
    assert not earlier.alive()
    earlier.signal(signal.SIGKILL)
    stranger.terminate()
    assert await stranger.wait() == -signal.SIGTERM


async def test_a_port_taken_by_another_program_is_replaced_and_said(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    async with platform_in(home.root):
        ports = json.loads(home.ports.read_text())
    said: list[str] = []
    with socket.create_server(("127.0.0.1", ports["quota"])):
        async with platform_in(home.root, said):
            now = json.loads(home.ports.read_text())
    assert {name for name in ports if ports[name] != now[name]} == {"quota"}
    assert f"quota's old port is taken by another program; it moves to {now['quota']}" in said


async def test_a_service_that_cannot_start_is_told_with_its_last_words_and_nothing_is_left(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    seen: dict[str, ProcessIdentity] = {}

    def argv(service: str) -> tuple[str, ...]:
        seen.update(identities(home))
        if service == "quota":
            return (sys.executable, "-c", "import sys; sys.exit('setting window_ms: it must be positive')")
        return health_server_argv(service)

    with pytest.raises(StartFailed, match=r"quota did not start: it exited with code 1; .*\n  setting window_ms"):
        await Platform(home, argv=argv).start()
    assert set(seen) == {"postgres", "nats", "eventlog", "scheduler"}
    assert not [name for name, identity in seen.items() if identity.alive()]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/home", r"file/home cannot be used for the platform's data \(Not a directory\); name a folder"),
        (".", r"holds files that are not Tether's; name an empty or a new folder with --data-dir"),
    ],
)
async def test_an_unusable_data_directory_is_told_in_one_sentence(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LocalError, match=message):
        await platform_in(tmp_path / path).start()
    assert sorted(tmp_path.iterdir()) == before


async def test_no_folder_above_the_data_is_touched(tmp_path: Path) -> None:
    """Above all not opened to the account under which PostgreSQL runs when we are root."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    above = [closed, *closed.parents]
    before = [(folder, folder.stat().st_mode, folder.stat().st_uid) for folder in above]
    async with platform_in(closed / "home") as started:
        assert await query(started.home, "SELECT 1") == 1
    assert [(folder, folder.stat().st_mode, folder.stat().st_uid) for folder in above] == before
    shutil.rmtree(closed)
