"""The `tether` command as people run it: its own process, its own home, real servers."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from services.eventlog import bootstrap as eventlog
from services.metrics import bootstrap as metrics
from services.quota import bootstrap as quota
from services.scheduler import bootstrap as scheduler
from tests.support.control import Control
from tests.support.platform import DatabaseUrls
from tests.support.servers import OPERATOR_TOKEN, address, eventlog_settings, running, scheduler_settings

TIMEOUT_S = 40
# Nothing listens there.
NOWHERE = "127.0.0.1:9"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one sentence of a failed command."""
        lines = self.err.strip().splitlines()
        assert self.code != 0, f"it did not fail: {self.out}"
        assert len(lines) == 1, f"not one sentence: {self.err}"
        assert lines[0].startswith("error: "), lines[0]
        return lines[0].removeprefix("error: ")


class Cli:
    """Runs `tether` with a client.toml for `endpoints`; without them nothing is configured."""

    def __init__(self, home: Path, token: str = "", endpoints: Mapping[str, str] | None = None, **more: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TETHER_")}
        self.environment = {**kept, "TETHER_HOME": str(home), "TZ": "UTC", "COLUMNS": "120", "NO_COLOR": "1"}
        self.endpoints = dict(endpoints or {})
        if endpoints is not None:
            lines = [f"token = {json.dumps(token)}", *(f"{key} = {json.dumps(value)}" for key, value in more.items())]
            lines += ["[endpoints]", *(f"{key} = {json.dumps(value)}" for key, value in endpoints.items())]
            (home / "client.toml").write_text("\n".join(lines))

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.cli",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self.environment, **environment},
        )

    async def __call__(self, *arguments: str, **environment: str) -> Result:
        process = await self.start(*arguments, **environment)
        return await ended(process)


async def ended(process: asyncio.subprocess.Process) -> Result:
    """Wait for the command's end; one that does not end is killed and fails the test."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"the command did not end within {TIMEOUT_S} s") from None
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


async def line_with(process: asyncio.subprocess.Process, words: str) -> str:
    """The next line of stdout that has `words`; others are passed over."""
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT_S):
        while line := (await process.stdout.readline()).decode():
            if words in line:
                return line
    raise AssertionError(f"the command ended before it said {words!r}")


@asynccontextmanager
async def scheduler_on(listen: str, database: DatabaseUrls, eventlog_address: str) -> AsyncIterator[Control]:
    """A scheduler at an address; without a workspace of its own, so that it can be one that came back."""
    settings = scheduler_settings(database.scheduler).model_copy(update={"listen": listen})
    async with running(scheduler.serve, settings), grpc.aio.insecure_channel(listen) as channel:
        yield Control(channel, eventlog_address)


@asynccontextmanager
async def served(database: DatabaseUrls, home: Path, *, figures: bool = False) -> AsyncIterator[tuple[Control, Cli]]:
    """Event log and scheduler with a workspace, and a command that knows them; with `figures` quota and metrics too,
    which are down otherwise."""
    listen = address()
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(running(eventlog.serve, eventlog_settings(database.eventlog)))
        endpoints = {"scheduler": listen, "eventlog": log, "quota": NOWHERE, "metrics": NOWHERE}
        control = await stack.enter_async_context(scheduler_on(listen, database, log))
        if figures:
            of_quota = quota.Settings(postgres_url=database.quota, listen=address())
            endpoints["quota"] = await stack.enter_async_context(running(quota.serve, of_quota))
            of_metrics = metrics.Settings(
                postgres_url=database.metrics,
                listen=address(),
                artifact_store=str(home / "artifacts"),
                artifact_uploads=str(home / "uploads"),
            )
            endpoints["metrics"] = await stack.enter_async_context(running(metrics.serve, of_metrics))
        created = await control.create_workspace("test")
        control.token, control.workspace_id = created.secret, created.workspace_id
        yield control, Cli(home, control.token, endpoints, operator_token=OPERATOR_TOKEN)
