"""A real box: `tether-runner` installed and started as its owner would, on simulated GPUs."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

RUNNER = str(Path(sys.executable).parent / "tether-runner")


async def run(*arguments: str, env: dict[str, str] | None = None, timeout_s: float = 60) -> tuple[int, str]:
    """Exit code and output (both streams) of a command."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, output.decode()


class BoxProcess:
    """One runner on this machine, in a state folder of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state

    async def command(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Output of `tether-runner …`; an exit code that is not 0 fails the test."""
        code, output = await run(RUNNER, *arguments, env={"TETHER_RUNNER_STATE": str(self.state), **(env or {})})
        assert code == 0, output
        return output

    async def install(self, server: str, key: str, gpus: str = "NVIDIA A10G:1", name: str = "box") -> None:
        options = ("--server", server, "--name", name, "--simulate-gpus", gpus)
        await self.command("install", *options, env={"TETHER_RUNNER_KEY": key})

    async def start(self) -> None:
        await self.command("start")

    async def stop(self) -> None:
        await self.command("stop", "--yes")

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.command("status", "--json"))
        return found
