"""Commands of a how-to page, typed into a shell as a reader would."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"
BIN = Path(sys.executable).parent


def commands(page: str, language: str = "console") -> list[str]:
    """The lines to type, in order; of a shell block each block is one."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    if language != "console":
        return blocks
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def environment(**more: str) -> dict[str, str]:
    """Nothing of the developer's own platform, and our commands first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TETHER_")}
    return {**kept, "PATH": f"{BIN}:{os.environ['PATH']}", "TZ": "UTC", "COLUMNS": "120", **more}


async def typed(line: str, folder: Path, variables: Mapping[str, str], limit_s: float = 60) -> str:
    """What the command shows. It must succeed within the limit."""
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-ec", line),
        cwd=folder,
        env=dict(variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            output, _ = await shell.communicate()
    except TimeoutError:
        os.killpg(shell.pid, signal.SIGKILL)
        output, _ = await shell.communicate()
        raise AssertionError(f"`{line}` takes longer than {limit_s:g} s:\n{output.decode()[-2000:]}") from None
    assert shell.returncode == 0, f"`{line}` ended with {shell.returncode}:\n{output.decode()[-2000:]}"
    return output.decode()
