"""The trainer as the keeper holds it: spawned warm, its pipes, its end. Standard library only."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner_agent.processes import die_with_parent

LOG_LINE_BYTES = 16 * 1024
CONTROL_LINE_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
# How long the keeper waits for killed processes; what is left after that, the agent's sweep sees to.
REAP_ATTEMPTS = 400
REAP_PAUSE_S = 0.005


class Lines:
    """Cuts a byte stream into lines of at most `limit` bytes; a longer one becomes several."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from self._cut(line)
        while len(self._rest) > self._limit:
            yield self._rest[: self._limit]
            self._rest = self._rest[self._limit :]

    def end(self) -> Iterator[bytes]:
        """The last line, if it has no line end."""
        rest, self._rest = self._rest, b""
        if rest:
            yield from self._cut(rest)

    def _cut(self, line: bytes) -> Iterator[bytes]:
        yield line[: self._limit]
        for start in range(self._limit, len(line), self._limit):
            yield line[start : start + self._limit]


class Trainer:
    """One spawned trainer. It dies with this process, and is the leader of its own session."""

    def __init__(self, command: list[str], pair: str) -> None:
        control_read, control_write = os.pipe()
        keeper_pid = os.getpid()

        self._process = subprocess.Popen(
            [*command, "--control-fd", str(control_write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(control_write,),
            # The mark by which a sweep finds everything that the trainer spawned.
            env={**os.environ, "TETHER_PAIR": pair},
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(keeper_pid),
            bufsize=0,
        )
        os.close(control_write)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.pid = self._process.pid
        self.control = control_read
        self.stdout = self._process.stdout.fileno()
        self.stderr = self._process.stderr.fileno()
        self._stdin = self._process.stdin
        for descriptor in (self.control, self.stdout, self.stderr):
            os.set_blocking(descriptor, False)

    def release(self, line: dict[str, Any]) -> None:
        """Write its one line; a trainer that has just died is noticed by its exit."""
        with contextlib.suppress(OSError):
            self._stdin.write(json.dumps(line).encode() + b"\n")

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def exited(self) -> bool:
        """True once the trainer is a zombie; its pid stays taken until `reap`."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def kill_all(self) -> None:
        """SIGKILL to the trainer, its group and every descendant, the ones included that left the session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def reap(self) -> int:
        """Collect an exited trainer and kill what it left behind; its exit code, negative for a signal."""
        for _ in range(REAP_ATTEMPTS):
            self.kill_all()
            if not self._reap_orphans():
                break
            time.sleep(REAP_PAUSE_S)
        return self._process.wait()

    def _reap_orphans(self) -> bool:
        """Collect dead orphans; True while one of them still lives."""
        alive = False
        for pid in _children():
            if pid != self.pid:
                with contextlib.suppress(ChildProcessError):
                    alive |= os.waitpid(pid, os.WNOHANG) == (0, 0)
        return alive


def _children() -> list[int]:
    """Direct children; with the subreaper set these are, one after the other, all descendants."""
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return []
