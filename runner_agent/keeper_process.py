"""The keeper as a process: the state machine of `keeper`, with pipes, a socket, files and signals around it.

Run as `python -I -S -E keeper_process.py --socket PATH --pair ID -- TRAINER-COMMAND…`, with a pipe from the launcher
as standard input. Standard library only, so that it stays small and nothing of a training environment can break it.
The agent speaks JSON lines on the socket; each request is answered with one status line, and after `watch` a status
line comes with every change as well.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

# -I leaves the package's own folder out; it goes last, so that nothing there can hide a module of Python's.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from runner_agent import clock, files, keeper
from runner_agent import keeper_messages as m
from runner_agent.keeper_trainer import (
    CONTROL_LINE_BYTES,
    LOG_LINE_BYTES,
    READ_BYTES,
    Lines,
    LogSpool,
    Trainer,
    oom_kills,
)
from runner_agent.processes import become_subreaper

# CLOCK_BOOTTIME goes on while the box sleeps, a select does not: look at the clock at least this often.
LONGEST_WAIT_S = 1.0
RETRY_WRITE_S = 0.5
# Facts that wait for a full disk; beyond that the newest are dropped, the end of the attempt never.
MOST_PENDING = 10_000
# Reads of a pipe whose writers are dead: more than any pipe holds.
LAST_READS = 64


class Keeper:
    """One attempt at most, then the process ends."""

    def __init__(self, socket_path: Path, pair: str, command: list[str]) -> None:
        self._selector = selectors.DefaultSelector()
        # Before the trainer is there, so that its exit is never missed.
        self._wakeup = _signals()
        self._trainer = Trainer(command, pair)
        boot_id = clock.boot_id()
        self._state = keeper.State(pair, boot_id, os.getpid(), self._trainer.pid)
        self._log = LogSpool()
        self._oom_kills = oom_kills()
        self._folder = Path()
        self._facts = 0
        self._pending: deque[m.Action] = deque()
        self._refusal = ""
        self._quitting = False
        self._reaped = False
        self._watchers: set[socket.socket] = set()
        self._listen(socket_path)
        self._read_pipe(self._trainer.stdout, Lines(LOG_LINE_BYTES), lambda lines: self._log.add(lines, error=False))
        self._read_pipe(self._trainer.stderr, Lines(LOG_LINE_BYTES), lambda lines: self._log.add(lines, error=True))
        self._read_pipe(self._trainer.control, Lines(CONTROL_LINE_BYTES), self._control_lines)
        self._selector.register(0, selectors.EVENT_READ, self._launcher_spoke)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._signalled)

    def run(self) -> None:
        """Return once the attempt has ended and everything durable is written."""
        while not (self._quitting and not self._pending):
            for key, _ in self._selector.select(self._wait_s()):
                key.data()
            if not self._reaped and self._trainer.exited():
                self._collect()
            wake_ns = keeper.wake_at_ns(self._state)
            if wake_ns is not None and clock.boottime_ns() >= wake_ns:
                self._feed(m.Tick())
            self._flush()
        if not self._reaped:
            self._trainer.kill_all()

    def _wait_s(self) -> float | None:
        if self._pending:
            return RETRY_WRITE_S
        wake_ns = keeper.wake_at_ns(self._state)
        if wake_ns is None:
            return None
        return min(LONGEST_WAIT_S, max(0.0, (wake_ns - clock.boottime_ns()) / keeper.SECOND_NS))

    # ---- the machine

    def _feed(self, item: m.Input) -> None:
        self._state, actions = keeper.step(self._state, item, clock.boottime_ns())
        for action in actions:
            if not self._perform(action):
                break
        self._flush()
        line = self._status_line()
        for watcher in list(self._watchers):
            self._answer(watcher, line)

    def _perform(self, action: m.Action) -> bool:
        """Carry out one action; False where the ones behind it must not follow."""
        match action:
            case m.Refuse(message):
                self._refusal = message
            case m.CreatePhase(content):
                return self._create_phase(content)
            case m.Release(line):
                self._trainer.release(line)
            case m.Terminate():
                self._trainer.terminate()
            case m.KillAll():
                # After its exit `_collect` has killed the rest already, while the pid was still its own.
                if not self._reaped:
                    self._trainer.kill_all()
            case m.Stamp(content):
                # A stamp that the disk does not take is made up for by the next.
                with contextlib.suppress(OSError):
                    files.replace(self._folder / "alive", _json(content))
            case m.Quit():
                self._quitting = True
            case m.AppendFact(fact) if len(self._pending) >= MOST_PENDING and fact["fact"] != "ended":
                pass
            case m.AppendFact() | m.WriteOutcome() | m.WritePhase():
                self._pending.append(action)
        return True

    def _create_phase(self, content: dict[str, Any]) -> bool:
        assert self._state.attempt is not None
        self._folder = Path(self._state.attempt.directory)
        try:
            files.create_once(self._folder / "phase.json", _json(content))
            self._log.open(self._folder / "spool" / "log.jsonl")
        except FileExistsError:
            self._feed(m.StartFailed("the attempt was started before"))
            return False
        except OSError as error:
            self._feed(m.StartFailed(f"cannot write to {self._folder}: {error.strerror}"))
            return False
        return True

    def _flush(self) -> None:
        """Write what must be durable, in order; what the disk does not take is tried again."""
        while self._pending:
            try:
                match self._pending[0]:
                    case m.AppendFact(fact):
                        files.append(self._folder / "facts.jsonl", _json(fact))
                        self._facts += 1
                    case m.WriteOutcome(content):
                        files.replace(self._folder / "outcome.json", _json(content))
                    case m.WritePhase(content):
                        files.replace(self._folder / "phase.json", _json(content))
            except OSError:
                return
            self._pending.popleft()

    def _collect(self) -> None:
        """The trainer has exited: take in what it still said, kill what it left behind, tell the machine."""
        self._trainer.kill_all()
        for descriptor in (self._trainer.stdout, self._trainer.stderr, self._trainer.control):
            key = self._selector.get_map().get(descriptor)
            for _ in range(LAST_READS):
                if key is None or not key.data():
                    break
        code = self._trainer.reap()
        self._reaped = True
        killed = code == -signal.SIGKILL and oom_kills() > self._oom_kills
        self._feed(m.Exited(code, self._log.last_error_line, killed))

    # ---- pipes

    def _read_pipe(self, descriptor: int, lines: Lines, take: Callable[[list[bytes]], None]) -> None:
        def read() -> bool:
            """One read; False where there is nothing more for now."""
            try:
                data = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                return False
            except OSError:
                data = b""
            take(list(lines.feed(data) if data else lines.end()))
            if not data:
                self._selector.unregister(descriptor)
            return bool(data)

        self._selector.register(descriptor, selectors.EVENT_READ, read)

    def _control_lines(self, lines: list[bytes]) -> None:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if isinstance(event, dict):
                self._feed(m.Said(event))
            elif line.strip():
                self._log.add([b"the keeper could not read a control line: " + line[:200]], error=True)

    def _launcher_spoke(self) -> None:
        if not os.read(0, READ_BYTES):
            self._selector.unregister(0)
            self._feed(m.Orphaned())

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if signal.SIGTERM in self._wakeup.recv(4096):
                message = "the keeper was told to stop on the box (SIGTERM)"
                held = self._state.attempt is not None
                self._feed(m.Stop(keeper.STOPPED_BY_PERSON, message) if held else m.Orphaned())

    # ---- the socket

    def _listen(self, path: Path) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen(8)
        server.setblocking(False)

        def accept() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                connection.setblocking(False)
                lines = Lines(CONTROL_LINE_BYTES)
                self._selector.register(connection, selectors.EVENT_READ, lambda: self._requests(connection, lines))

        self._selector.register(server, selectors.EVENT_READ, accept)

    def _requests(self, connection: socket.socket, lines: Lines) -> None:
        try:
            data = connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
        for line in lines.feed(data):
            try:
                self._request(connection, json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                self._refusal = f"cannot read the request: {error!r}"
            self._answer(connection, self._status_line())
            self._refusal = ""

    def _request(self, connection: socket.socket, request: dict[str, Any]) -> None:
        match request["cmd"]:
            case "status":
                pass
            case "watch":
                self._watchers.add(connection)
            case "start":
                self._feed(_start(request))
            case "renew":
                self._feed(m.Renew(int(request["deadline_boottime_ns"]), _anchor(request)))
            case "stop":
                grace_ns = int(request["grace_ms"]) * 1_000_000 if "grace_ms" in request else m.STOP_GRACE_NS
                self._feed(m.Stop(str(request["reason"]), str(request["message"]), grace_ns))
            case other:
                self._refusal = f"unknown command {other!r}"

    def _status_line(self) -> bytes:
        return _json({**keeper.status(self._state, self._facts), "refused": self._refusal})

    def _answer(self, connection: socket.socket, line: bytes) -> None:
        """Send a status line; a peer that does not read is dropped and may come back."""
        try:
            sent = connection.send(line)
        except OSError:
            sent = -1
        if sent != len(line):
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._watchers.discard(connection)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        connection.close()


def _start(request: dict[str, Any]) -> m.Start:
    return m.Start(
        attempt_id=str(request["attempt_id"]),
        job_id=str(request["job_id"]),
        directory=str(request["directory"]),
        window_ms=int(request["window_ms"]),
        deadline_ns=int(request["deadline_boottime_ns"]),
        anchor=_anchor(request),
        simulated=bool(request["simulated"]),
        gpu_uuids=tuple(str(uuid) for uuid in request["gpu_uuids"]),
    )


def _anchor(request: dict[str, Any]) -> m.Anchor:
    return m.Anchor(int(request["anchor_at_ms"]), int(request["anchor_boottime_ns"]))


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _signals() -> socket.socket:
    """Turn SIGCHLD and SIGTERM into bytes on a socket that the loop reads."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return reader


def main(arguments: list[str]) -> None:
    """Hold one pair until its attempt has ended, or its launcher is gone before there was one."""
    match arguments:
        case ["--socket", path, "--pair", pair, "--", *command] if command:
            become_subreaper()
            try:
                Keeper(Path(path), pair, command).run()
            finally:
                Path(path).unlink(missing_ok=True)
        case _:
            sys.exit("usage: keeper_process.py --socket PATH --pair ID -- TRAINER-COMMAND…")


if __name__ == "__main__":
    main(sys.argv[1:])
