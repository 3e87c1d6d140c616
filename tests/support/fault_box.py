"""A box whose processes a test strikes one by one: launcher, agent and keeper are the real ones."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner_agent import files
from runner_agent.attempts import AttemptFolder
from runner_agent.config import BoxConfig, StateFolder
from runner_agent.locks import Lock
from tests.support.eventually import eventually
from tests.support.keeper_under_test import alive

GATES = ("ready", "start", "run", "end")

_GATED_TRAINER = Path(__file__).with_name("gated_trainer")


class FaultBox:
    """One installed runner. `enter` is what its processes are started with, for example in a namespace."""

    def __init__(self, root: Path, name: str, server: str, key: str, enter: Sequence[str], *, gated: bool) -> None:
        self.name, self.gates = name, root / "gates"
        self.folder = StateFolder(root / "state")
        self._enter = enter
        self.gates.mkdir(parents=True, exist_ok=True)
        self.folder.root.mkdir(mode=0o700, exist_ok=True)
        self.folder.secret_key.write_text(key)
        self.folder.installation_id.write_text(f"installation of {name}")
        self.folder.save(BoxConfig(name=name, server=server, simulate_gpus="NVIDIA A10G:1"))
        self._environment = {**os.environ, "TETHER_TEST_GATES": str(self.gates)}
        if gated:
            paths = (str(_GATED_TRAINER), os.environ.get("PYTHONPATH", ""))
            self._environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        self._launchers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the launcher, as a service manager does."""
        command = [*self._enter, sys.executable, "-P", "-m", "runner_agent.launcher"]
        launcher = subprocess.Popen(
            [*command, "--state-dir", str(self.folder.root)],
            env=self._environment,
            cwd=self.folder.root,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._launchers.append(launcher)

    def stop(self) -> None:
        """End every process of the box, whatever state it is in."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for launcher in self._launchers:
            launcher.kill()
            launcher.wait(10)

    # ---- gates

    def hold(self, *gates: str) -> None:
        for gate in gates:
            (self.gates / gate).touch()

    def let_go(self) -> None:
        """Open every gate: the training goes on to its end."""
        for gate in GATES:
            (self.gates / gate).unlink(missing_ok=True)

    # ---- processes

    def pid(self, part: str, attempt_id: str = "") -> int:
        """Of launcher or agent, or of keeper or trainer of an attempt; 0 where there is none."""
        if part == "launcher":
            return Lock(self.folder.lock).holder()
        if part == "agent":
            return Lock(self.folder.agent_lock).holder()
        return int(self.attempt(attempt_id).phase().get(f"{part}_pid", 0))

    def pids(self) -> list[int]:
        """Every living process of the box: all carry its gates in their environment."""
        mark = f"TETHER_TEST_GATES={self.gates}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return [pid for pid in found if alive(pid)]

    def strike(self, part: str, attempt_id: str, number: int = signal.SIGKILL) -> int:
        pid = self.pid(part, attempt_id)
        assert pid, f"{self.name} has no {part}"
        os.kill(pid, number)
        return pid

    def signal_all(self, number: int) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # ---- what is to be seen on the box

    def attempt(self, attempt_id: str) -> AttemptFolder:
        return AttemptFolder(self.folder.attempts, attempt_id)

    def status(self) -> dict[str, Any]:
        return files.read_json(self.folder.status) or {}

    def ready(self) -> bool:
        return bool(self.status().get("connected") and self.status().get("warm"))

    def last_ack_ns(self) -> int:
        return int(self.status().get("last_ack_boottime_ns") or 0)

    async def just_heard(self) -> int:
        """Wait for the next acknowledgement: the window has just begun then. When it arrived, CLOCK_BOOTTIME."""
        before_ns = self.last_ack_ns()
        await eventually(lambda: self.last_ack_ns() > before_ns, 30, f"an acknowledgement for {self.name}")
        return self.last_ack_ns()

    def observed(self, attempt_id: str, what: str = "") -> list[dict[str, Any]]:
        """What trainers of the attempt have noted."""
        lines = files.read_json_lines(self.gates / f"{attempt_id}.jsonl")
        return [line for line in lines if what in ("", line["what"])]

    def ran_ms(self, attempt_id: str) -> float:
        """How long the attempt trained, its stop not included; zero where it never started."""
        started = self.observed(attempt_id, "started")
        if not started:
            return 0.0
        stopping = self.observed(attempt_id, "stopping")
        last = stopping[0] if stopping else self.observed(attempt_id)[-1]
        return float(last["boottime_ns"] - started[0]["boottime_ns"]) / 1e6
