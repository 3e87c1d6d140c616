"""A keeper as a real process for tests, with a stand-in for its trainer, and a look at the processes of a box."""

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner_agent import clock, keeper_process

STAND_IN = Path(__file__).parent / "stand_in_trainer.py"
SECOND_NS = 1_000_000_000


def stand_in(*options: str) -> list[str]:
    return [sys.executable, "-S", "-E", str(STAND_IN), *options]


def alive(pid: int) -> bool:
    """True unless the process is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class KeeperUnderTest:
    """A keeper with a stand-in trainer, or another one (`trainer`); the test is its launcher.

    `around` is a command that runs the keeper's, which follows it.
    """

    def __init__(
        self, folder: Path, *trainer_options: str, trainer: Sequence[str] = (), around: Sequence[str] = ()
    ) -> None:
        self.pair = uuid.uuid4().hex[:12]
        self.path = folder / f"{self.pair}.sock"
        self.directory = folder / "attempt"
        (self.directory / "spool").mkdir(parents=True, exist_ok=True)
        command = [*around, sys.executable, "-I", "-S", "-E", str(Path(keeper_process.__file__))]
        command += ["--socket", str(self.path), "--pair", self.pair, "--", *(trainer or stand_in(*trainer_options))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> "KeeperUnderTest":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one status line. Raises OSError while the socket is not there."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile() as lines:
                return dict(json.loads(lines.readline()))

    def start(self, deadline_in_s: float = 600.0) -> dict[str, Any]:
        now_ns = clock.boottime_ns()
        return self.ask(
            cmd="start",
            attempt_id="attempt-1",
            job_id="job-1",
            directory=str(self.directory),
            window_ms=int(deadline_in_s * 1000),
            deadline_boottime_ns=now_ns + int(deadline_in_s * SECOND_NS),
            anchor_at_ms=1_000_000,
            anchor_boottime_ns=now_ns,
            simulated=True,
            gpu_uuids=[],
        )

    def facts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "facts.jsonl").read_text().splitlines()]

    def outcome(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / "outcome.json").read_text()))

    def phase(self) -> str:
        return str(json.loads((self.directory / "phase.json").read_text())["phase"])

    def pids(self) -> list[int]:
        """Trainer and its child (0 without one)."""
        return list(json.loads((self.directory / "pids.json").read_text()))

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def gone(self) -> bool:
        return self.process.poll() is not None and not any(alive(pid) for pid in self.pids() if pid)


def kill(pid: int, number: int) -> bool:
    os.kill(pid, number)
    return True
