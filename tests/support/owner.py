"""The owner of a box at a terminal: `tether-runner` with a home of its own, real launchers, gated trainers."""

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from runner_agent import files, keeper_client
from runner_agent.config import StateFolder
from runner_agent.locks import Lock
from tests.support.eventually import eventually
from tests.support.keeper_under_test import alive

SUPPORT = Path(__file__).parent
PROGRAM = str(Path(sys.executable).parent / "tether-runner")
KEY = "tk_" + "k" * 43
TIMEOUT_S = 90.0


class Owner:
    """`nvidia`: the box has four GPUs of a stand-in for NVIDIA's library; otherwise GPUs are to be simulated."""

    def __init__(self, home: Path, server: str, *, nvidia: bool = False, enter: tuple[str, ...] = ()) -> None:
        self.home, self.server, self._enter = home, server, enter
        self.gates = home / "gates"
        self.gates.mkdir(parents=True)
        paths = [SUPPORT / "gated_trainer", *([SUPPORT / "pynvml_stand_in"] if nvidia else [])]
        self.environment = {
            **os.environ,
            "XDG_DATA_HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "HOME": str(home),
            "PYTHONPATH": ":".join(str(path) for path in paths),
            "TETHER_TEST_GATES": str(self.gates),
            "TETHER_TEST_BOX": uuid.uuid4().hex,
            "TETHER_RUNNER_KEY": KEY,
            "COLUMNS": "250",
        }
        self.environment.pop("TETHER_RUNNER_STATE", None)

    def folder(self, name: str = "default") -> StateFolder:
        return StateFolder(self.home / "tether-runner" / name)

    def argv(self, *arguments: str) -> list[str]:
        return [*self._enter, PROGRAM, *arguments]

    def tries(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """A command, without a terminal."""
        return subprocess.run(
            self.argv(*arguments),
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    async def runs(self, *arguments: str, **environment: str) -> str:
        """The output of a command that succeeds, while the platform goes on."""
        done = await asyncio.to_thread(self.tries, *arguments, **environment)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    async def starts(self, name: str = "default") -> None:
        """`start`, and however long it then takes on a busy machine to be connected."""
        done = await asyncio.to_thread(self.tries, "start", "--name", name)
        assert "Traceback" not in done.stderr
        await eventually(lambda: self.agent_says(name).get("connected"), TIMEOUT_S, f"{name} is connected")

    async def is_refused(self, *arguments: str, **environment: str) -> str:
        """The one sentence with which a command fails."""
        done = await asyncio.to_thread(self.tries, *arguments, **environment)
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def answers(self, answer: str, *arguments: str) -> tuple[int, str]:
        """Exit code and output of a command in a terminal at which `answer` is typed."""
        ours, its = pty.openpty()
        process = subprocess.Popen(
            self.argv(*arguments), env=self.environment, stdin=its, stdout=its, stderr=its, start_new_session=True
        )
        os.close(its)
        os.write(ours, answer.encode() + b"\n")
        output = b""
        # Linux tells the end of a terminal's other side as an error.
        while select.select([ours], [], [], TIMEOUT_S)[0]:
            try:
                output += os.read(ours, 65536)
            except OSError:
                break
        os.close(ours)
        return process.wait(TIMEOUT_S), output.decode()

    def install(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.tries("install", "--server", self.server, *arguments)

    async def status(self, name: str = "default") -> dict[str, Any]:
        return dict(json.loads(await self.runs("status", "--json", "--name", name)))

    def agent_says(self, name: str = "default") -> dict[str, Any]:
        """What the agent tells of itself, without a command."""
        return files.read_json(self.folder(name).status) or {}

    def hold(self, gate: str) -> None:
        (self.gates / gate).touch()

    def let_go(self, gate: str) -> None:
        (self.gates / gate).unlink()

    def launcher(self, name: str = "default") -> int:
        return Lock(self.folder(name).lock).holder()

    async def clear(self) -> None:
        """End every process of every runner."""
        for path in self.home.glob("tether-runner/*"):
            folder = StateFolder(path)
            keepers = [status["keeper_pid"] for status in self._keepers(folder)]
            for pid in (Lock(folder.lock).holder(), *keepers):
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    await eventually(lambda: not alive(pid))  # noqa: B023

    @staticmethod
    def _keepers(folder: StateFolder) -> list[dict[str, Any]]:
        phases = [files.read_json(path) or {} for path in folder.attempts.glob("*/phase.json")]
        held = {status["attempt_id"] for status in keeper_client.held(folder.keepers).values()}
        return [phase for phase in phases if phase.get("attempt_id") in held]
