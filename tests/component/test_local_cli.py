"""`up`, `status` and `down` as a person meets them: real processes, their output and their exit codes."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.local.home import Home
from deploy.local.process import ProcessIdentity
from deploy.local.state import PlatformState, running
from tests.support.eventually import eventually


async def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.local", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def run_on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Exit code of one command, and what a person at a terminal sees of it."""
    ours, its = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deploy.local", *arguments),
            env={**os.environ, "TERM": "dumb"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=its,
            stderr=its,
        )
    finally:
        os.close(its)

    def seen() -> str:
        said = b""
        # At the end of the last process that has the terminal, Linux gives an error.
        with suppress(OSError):
            while part := os.read(ours, 1 << 16):
                said += part
        os.close(ours)
        return said.decode().replace("\r\n", "\n")

    async with asyncio.timeout(90):
        shown = await asyncio.to_thread(seen)
        return await process.wait(), shown


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    """The data directory of a platform that runs in another process."""
    home = Home(tmp_path / "home")
    supervisor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.health_platform", str(home.root)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: (state := running(home.state)) and state.phase == "running", 60, "a running platform")
        yield home
    finally:
        if supervisor.returncode is None:
            supervisor.terminate()
        await supervisor.wait()


async def test_status_shows_each_process_and_its_exit_code_says_whether_all_are_healthy(home: Home) -> None:
    code, out, err = await run("status", "--json", "--data-dir", str(home.root))
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["phase"] == "running"
    assert {process["name"]: process["healthy"] for process in told["processes"]} == dict.fromkeys(
        ("postgres", "nats", "eventlog", "scheduler", "quota", "metrics", "gateway"), True
    )

    state = PlatformState.load(home.state)
    assert state is not None
    frozen = next(process for process in state.processes if process.name == "metrics").identity
    assert frozen is not None
    frozen.signal(signal.SIGSTOP)
    try:
        code, out, _ = await run("status", "--data-dir", str(home.root))
    finally:
        frozen.signal(signal.SIGCONT)
    assert code == 1
    assert [line.split()[2] for line in out.splitlines()[1:] if line.startswith(("metrics", "nats"))] == [
        "healthy",
        "down",
    ]


async def test_a_second_up_is_refused_in_one_sentence(home: Home) -> None:
    code, out, err = await run("up", "--data-dir", str(home.root))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: a platform is already running in {home.root} (process ")
    assert len(err.splitlines()) == 1

    code, _, err = await run("up", "--detach", "--data-dir", str(home.root))
    assert code == 1
    assert "already running" in err
    assert running(home.state) is not None


async def test_down_stops_everything_and_says_so(home: Home) -> None:
    state = running(home.state)
    assert state is not None
    processes: list[ProcessIdentity | None] = [process.identity for process in state.processes]
    code, out, _ = await run("down", "--data-dir", str(home.root))
    assert (code, out) == (
        0,
        f"stopped the platform in {home.root} (process {state.supervisor.pid}); its data is kept\n",
    )
    assert not [identity for identity in processes if identity is None or identity.alive()]

    code, out, _ = await run("down", "--data-dir", str(home.root))
    assert code == 0
    assert out == f"no platform is running in {home.root}; there was nothing to stop\n"
    code, _, err = await run("status", "--data-dir", str(home.root))
    assert (code, err) == (1, f"error: no platform is running in {home.root}; start it with `tether up`\n")
    code, out, _ = await run("status", "--json", "--data-dir", str(home.root))
    assert (code, json.loads(out)["phase"]) == (1, "stopped")


@pytest.mark.parametrize("flags", [[], ["--detach"]])
async def test_a_directory_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "file").touch()
    code, _, err = await run("up", *flags, "--data-dir", str(tmp_path / "file"))
    assert code == 1
    assert err.startswith(f"error: {tmp_path}/file cannot be used for the platform's data (")
    assert len(err.splitlines()) == 1
