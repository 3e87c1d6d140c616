"""The trainer as the keeper holds it: spawned warm, its pipes, its end. Standard library only."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner_agent import clock
from runner_agent.processes import die_with_parent

LOG_LINE_BYTES = 16 * 1024
CONTROL_LINE_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
# What a warm trainer printed before there was a log to write it to.
KEPT_WARM_LINES = 100
# How long the keeper waits for killed processes; what is left after that, the agent's sweep sees to.
REAP_ATTEMPTS = 400
REAP_PAUSE_S = 0.005


def oom_kills() -> int:
    """Processes that the kernel has killed for lack of memory since the boot."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


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


class LogSpool:
    """`spool/log.jsonl`: one record a line. A full disk drops lines, and their number is told later."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._end = 0
        self._dropped = 0
        self._warm: deque[tuple[int, bytes, bool]] = deque(maxlen=KEPT_WARM_LINES)
        self.last_error_line = ""

    def open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._write(list(self._warm))
        self._warm.clear()

    def add(self, lines: list[bytes], *, error: bool) -> None:
        at_ms = clock.wall_ms()
        records = [(at_ms, line, error) for line in lines]
        if error:
            for line in lines:
                if line.strip():
                    self.last_error_line = line.decode(errors="replace").strip()[:500]
        if self._descriptor < 0:
            self._warm.extend(records)
        else:
            self._write(records)

    def _write(self, records: list[tuple[int, bytes, bool]]) -> None:
        if not records:
            return
        if self._dropped:
            notice = f"{self._dropped} lines were dropped because the disk was full".encode()
            records = [(records[0][0], notice, True), *records]
        content = b"".join(_log_record(*record) for record in records)
        try:
            written = os.pwrite(self._descriptor, content, self._end)
        except OSError:
            written = -1
        if written == len(content):
            self._end += written
            self._dropped = 0
            return
        self._dropped += len(records) - (1 if self._dropped else 0)
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._end)


def _log_record(at_ms: int, line: bytes, error: bool) -> bytes:
    record = {"at_ms": at_ms, "log_line": {"text": line.decode(errors="replace").rstrip("\r"), "error": error}}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


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
