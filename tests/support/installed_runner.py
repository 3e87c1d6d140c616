"""An installed runner for tests: its agent as a real process, keepers with stand-in trainers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from runner_agent import keeper_client, keeper_process
from runner_agent.attempts import AttemptFolder
from runner_agent.config import BoxConfig, StateFolder
from tests.support.keeper_under_test import stand_in

KEY = "tk_" + "k" * 43


class InstalledRunner:
    """The test is the launcher."""

    def __init__(self, root: Path, server: str) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = StateFolder(root)
        self.folder.secret_key.write_text(KEY)
        self.folder.installation_id.write_text("installation-1")
        self.folder.save(BoxConfig(name="box", server=server, simulate_gpus="NVIDIA A10G:2"))
        self.sockets = self.folder.make_keepers()
        self.agent: subprocess.Popen[bytes] | None = None
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "InstalledRunner":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_agent()
        for keeper in self._keepers.values():
            keeper.kill()
            keeper.wait()
            assert keeper.stdin is not None
            keeper.stdin.close()

    def start_agent(self) -> None:
        command = [sys.executable, "-m", "runner_agent.agent", "--state-dir", str(self.folder.root)]
        self.agent = subprocess.Popen(command)

    def kill_agent(self, number: int = signal.SIGKILL) -> None:
        if self.agent is not None:
            self.agent.send_signal(number)
            self.agent.wait()
            self.agent = None

    def start_keeper(self, *options: str, command: list[str] | None = None) -> "subprocess.Popen[bytes]":
        pair = uuid.uuid4().hex[:16]
        arguments = [sys.executable, "-I", "-S", "-E", str(Path(keeper_process.__file__))]
        arguments += ["--socket", str(self.sockets / f"{pair}.sock"), "--pair", pair, "--"]
        keeper = subprocess.Popen(
            [*arguments, *(command or stand_in(*options))], stdin=subprocess.PIPE, start_new_session=True
        )
        self._keepers[pair] = keeper
        return keeper

    def attempt(self, attempt_id: str) -> AttemptFolder:
        return AttemptFolder(self.folder.attempts, attempt_id)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`tether-runner …` for this runner."""
        environment = {**os.environ, "TETHER_RUNNER_STATE": str(self.folder.root), "COLUMNS": "200"}
        command = [sys.executable, "-m", "runner_agent.cli", *arguments]
        return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)

    def held(self) -> list[dict[str, Any]]:
        return list(keeper_client.held(self.sockets).values())

    def status(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            return dict(json.loads(self.folder.status.read_text()))
        return {}

    def trainer_pids(self, attempt_id: str) -> list[int]:
        return list(json.loads((self.attempt(attempt_id).path / "pids.json").read_text()))

    def lines(self, attempt_id: str, spool: str) -> int:
        return len((self.attempt(attempt_id).spool / f"{spool}.jsonl").read_bytes().splitlines())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
