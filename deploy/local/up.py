"""Runs a platform until it is told to stop."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from deploy.local.errors import LocalError, last_lines
from deploy.local.home import Home
from deploy.local.platform import Platform
from deploy.local.process import POLL_S, ProcessIdentity, open_log, rotate
from deploy.local.state import running

DETACHED_START_S = 300.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def run_until_stopped(platform: Platform, on_ready: Callable[[], Awaitable[None]]) -> None:
    """Starts the platform, tells that it is ready, and stops it at the first of SIGTERM, SIGINT and SIGHUP.

    A signal during the start gives the start up. Raises LocalError when the platform does not start.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stopping.set)
    stop = asyncio.create_task(stopping.wait())
    start = asyncio.create_task(platform.start())
    try:
        await asyncio.wait([start, stop], return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            start.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await start
            return
        start.result()
        await on_ready()
        await stop
    finally:
        stop.cancel()
        await platform.stop()


def start_detached(home: Home, say: Callable[[str], None]) -> None:
    """Starts `up` in the background and returns when its platform runs, having said its lines meanwhile.

    Raises LocalError with its last lines if it ends instead, or does not come up within five minutes.
    """
    home.prepare()
    log = home.log("supervisor")
    rotate(log)
    offset = log.stat().st_size if log.exists() else 0
    with open_log(log) as output:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "deploy.local", "up", "--data-dir", str(home.root)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home.root,
            start_new_session=True,
        )
    try:
        asyncio.run(_wait_until_up(child, home, log, offset, say))
    except BaseException:
        # Whoever gives up waiting (Ctrl-C too) leaves nothing behind.
        child.terminate()
        child.wait(timeout=120)
        raise


async def _wait_until_up(
    child: "subprocess.Popen[bytes]", home: Home, log: Path, offset: int, say: Callable[[str], None]
) -> None:
    for _ in range(int(DETACHED_START_S / POLL_S)):
        ended = child.poll() is not None
        state = running(home.state)
        up = state is not None and state.phase == "running" and state.supervisor.pid == child.pid
        with log.open("rb") as lines:
            lines.seek(offset)
            while (line := lines.readline()).endswith(b"\n"):
                offset += len(line)
                if not up and not ended:
                    say(line.decode("utf-8", "replace").rstrip())
        if up:
            return
        if ended:
            raise LocalError("\n".join(last_lines(log)))
        await asyncio.sleep(POLL_S)
    raise LocalError(f"the platform did not come up within {DETACHED_START_S:g} s; see {log}")


async def stop_running(home: Home, grace_s: float = 90.0) -> ProcessIdentity | None:
    """Stops the platform that runs in `home` and waits until it is gone; None if none runs. Raises LocalError."""
    state = running(home.state)
    if state is None:
        return None
    try:
        os.kill(state.supervisor.pid, signal.SIGTERM)
    except PermissionError:
        raise LocalError(f"process {state.supervisor.pid} belongs to another user; run `down` as that user") from None
    if not await state.supervisor.wait_gone(grace_s):
        raise LocalError(f"process {state.supervisor.pid} has not ended within {grace_s:g} s; see {home.logs}")
    return state.supervisor
