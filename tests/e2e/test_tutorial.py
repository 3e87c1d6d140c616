"""The tutorial works: every line that it tells a reader to type is typed here, in order, on a real platform."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parent.parent.parent / "docs" / "tutorial.md"
_BIN = Path(sys.executable).parent
_LIMIT_S = 240
_MARK = "@@ command"

# What a reader must see; the beginning of a command → words of its output.
SEEN = {
    "tether up": ["Tether is up.", "Page: http://localhost:"],
    "tether whoami": ["default", "admin"],
    "tether-runner install": ["NVIDIA A10G, 24 GiB (simulated"],
    "tether-runner start": ["online"],
    "tether runners list": ["ONLINE", "NVIDIA A10G ×2 simulated", "×5"],
    "tether-runner sample": ["Wrote 1797 images"],
    "tether datasets check": ["✔ usable", "1,797 in 10 classes"],
    "tether train architectures": ["resnet-tiny", "resnet-18"],
    "tether train digits resnet-tiny --runner box-1 --epochs 8": ["✔ FINISHED", "checkpoint", "compute minutes"],
    "tether jobs show": ["Confusion matrix", "JobFinished"],
    "tether metrics list": ["train/loss", "validation/accuracy"],
    "tether metrics show": ["┤"],
    "tether jobs logs": ["1,438 to train on and 359 to validate on"],
    "tether train digits resnet-tiny --runner box-1 ||": ["exit code 1"],
    "tether-runner status": ["🔴 training"],
    "tether jobs stop": ["stopped by person"],
    "tether jobs watch": ["KILLED", "seen enough", "exit code 1"],
    "tether jobs list": ["KILLED", "FINISHED"],
    "tether usage charges": ["finished"],
    "tether events": ["RunnerRegistered", "RunnerConnected", "DatasetRegistered", "JobAssigned"],
    "tether usage verify": ["✔ equal"],
    "tether-runner uninstall": ["is uninstalled"],
    "tether down": ["stopped the platform"],
}


def commands() -> list[str]:
    """The lines to type, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def script(typed: list[str]) -> str:
    """The lines as one shell reads them, each followed by a mark with its number and exit code."""
    return "\n".join(f"{line}\nprintf '\\n{_MARK} {number} %s\\n' $?" for number, line in enumerate(typed))


@pytest.mark.timeout(_LIMIT_S + 60)
async def test_every_command_of_the_tutorial_succeeds_and_shows_what_it_promises(tmp_path: Path) -> None:
    typed = commands()
    missing = [beginning for beginning in SEEN if not any(line.startswith(beginning) for line in typed)]
    assert not missing, f"the tutorial does not have {missing} any more"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TETHER_")}
    environment |= {"PATH": f"{_BIN}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    try:
        output = await type_all(typed, tmp_path, environment)
    finally:
        clean_up(tmp_path / "tutorial", environment)
    parts = re.split(rf"\n{_MARK} (\d+) (\d+)\n", output)
    outputs, codes = parts[:-1:3], [int(code) for code in parts[2::3]]
    failed = [
        f"$ {line}\n{text}exit code {code}" for line, text, code in zip(typed, outputs, codes, strict=False) if code
    ]
    assert not failed, "\n".join(failed)
    assert len(codes) == len(typed), f"the shell ended after `{typed[len(codes) - 1]}`:\n{output[-2000:]}"
    for line, text in zip(typed, outputs, strict=True):
        for beginning, words in SEEN.items():
            if line.startswith(beginning):
                unseen = [word for word in words if word not in text]
                assert not unseen, f"`{line}` does not show {unseen}:\n{text}"
    assert not (tmp_path / "tutorial").exists()


async def type_all(typed: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What a shell shows that is given the lines."""
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", script(typed)),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_LIMIT_S):
            output, _ = await shell.communicate()
    except TimeoutError:
        # The command that runs too, which would keep the pipe open.
        os.killpg(shell.pid, signal.SIGKILL)
        output, _ = await shell.communicate()
        pytest.fail(f"the tutorial takes longer than {_LIMIT_S} s:\n{output.decode()[-2000:]}")
    return output.decode()


def clean_up(folder: Path, environment: dict[str, str]) -> None:
    """Leave nothing running where the tutorial did not come to its end."""
    if folder.exists():
        environment = {**environment, "TETHER_RUNNER_STATE": f"{folder}/runner", "TETHER_HOME": f"{folder}/platform"}
        for command in (["tether-runner", "stop", "--yes"], ["tether", "down"]):
            subprocess.run([_BIN / command[0], *command[1:]], env=environment, timeout=120, check=False)
        shutil.rmtree(folder, ignore_errors=True)
