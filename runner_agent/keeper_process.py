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
from collections.abc import Callable
from pathlib import Path
from typing import Any

# -I leaves the package's own folder out; it goes last, so that nothing there can hide a module of Python's.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from runner_agent import clock, keeper, losses, memory_kills
from runner_agent import keeper_messages as m
from runner_agent.keeper_files import AttemptFiles, to_line
from runner_agent.keeper_log import LogSpool
from runner_agent.keeper_trainer import CONTROL_LINE_BYTES, LOG_LINE_BYTES, READ_BYTES, Lines, Trainer
from runner_agent.processes import become_subreaper

# CLOCK_BOOTTIME goes on while the box sleeps, a select does not: look at the clock at least this often.
LONGEST_WAIT_S = 1.0
RETRY_WRITE_S = 0.5
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
        self._files = AttemptFiles()
        self._memory_kills = memory_kills.counted()
        # What the trainer said that it uses most memory for.
        self._sizes: tuple[int, int] = (0, 0)
        self._refusal = ""
        self._quitting = False
        # Watchers are to be told.
        self._changed = False
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
        while not (self._quitting and not self._files.waiting):
            # Asked once more: a wait that a SIGSTOP has used up tells of nothing, though renewals may lie there.
            for key, _ in self._selector.select(self._wait_s()) or self._selector.select(0):
                key.data()
            if not self._reaped and self._trainer.exited():
                self._collect()
            wake_ns = keeper.wake_at_ns(self._state)
            if wake_ns is not None and clock.boottime_ns() >= wake_ns:
                self._feed(m.Tick())
            if self._files.waiting:
                self._retry()
            if self._changed:
                self._tell_watchers()
        if not self._reaped:
            self._trainer.kill_all()
        if self._state.attempt is not None:
            self._files.end()
            self._log.tell_losses(at_the_end=True)

    def _wait_s(self) -> float | None:
        if self._files.waiting:
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
        self._files.flush()
        # Told once for all that was read together: a burst must not fill the watchers' sockets.
        self._changed = True

    def _retry(self) -> None:
        """Write what the disk has not taken yet; whoever watches is told how far that came."""
        before = self._files.told()
        self._files.flush()
        if self._files.told() != before:
            self._tell_watchers()

    def _tell_watchers(self) -> None:
        self._changed = False
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
                self._files.stamp(content)
                self._log.tell_losses()
            case m.Quit():
                self._quitting = True
            case m.AppendFact() | m.WriteOutcome() | m.WritePhase():
                self._files.put(action)
        return True

    def _create_phase(self, content: dict[str, Any]) -> bool:
        assert self._state.attempt is not None
        folder = Path(self._state.attempt.directory)
        try:
            self._files.begin(folder, content)
            self._log.open(folder / "spool")
        except FileExistsError:
            self._feed(m.StartFailed("the attempt was started before"))
            return False
        except OSError as error:
            self._feed(m.StartFailed(f"cannot write to {folder}: {error.strerror}"))
            return False
        return True

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
        killed = code == -signal.SIGKILL and memory_kills.counted() > self._memory_kills
        if killed:
            self._feed(m.Said(_out_of_memory(*self._sizes)))
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
                self._said(event)
            elif line.strip():
                self._log.add([b"the keeper could not read a control line: " + line[:200]], error=True)

    def _said(self, event: dict[str, Any]) -> None:
        """Some of what a trainer says is for this process alone."""
        match event:
            case {"event": "dropped"}:
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    self._log.lost(losses.parse(event))
            case {"event": "started", "batch_size": int(batch_size), "image_size": int(image_size)}:
                self._sizes = (batch_size, image_size)
                self._feed(m.Said(event))
            case _:
                self._feed(m.Said(event))

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
            case "start" if _gone(connection):
                # Its successor has told the platform that nothing runs here.
                self._refusal = "the agent that asked for the start is gone"
            case "start":
                self._feed(_start(request))
            case "renew":
                self._feed(m.Renew(int(request["deadline_boottime_ns"]), _anchor(request)))
            case "stop":
                grace_ns = int(request["grace_ms"]) * 1_000_000 if "grace_ms" in request else m.STOP_GRACE_NS
                self._feed(m.Stop(str(request["reason"]), str(request["message"]), grace_ns))
            case "dropped":
                self._log.lost(losses.parse(request))
            case other:
                self._refusal = f"unknown command {other!r}"

    def _status_line(self) -> bytes:
        written, waiting = self._files.told()
        status = keeper.status(self._state, written + len(waiting))
        unwritten = {"after": written, "facts": waiting}
        return to_line({**status, "refused": self._refusal, "dropped": self._log.dropped, "unwritten": unwritten})

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


def _gone(connection: socket.socket) -> bool:
    """Whether whoever is at the other end has hung up or died, though what it said is read only now."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


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
        stall_ns=int(request.get("stall_ms", 0)) * 1_000_000,
        stop_when_stalled=bool(request.get("stop_when_stalled")),
    )


def _anchor(request: dict[str, Any]) -> m.Anchor:
    uncertainty_ns = int(request.get("anchor_uncertainty_ns", 0))
    return m.Anchor(int(request["anchor_at_ms"]), int(request["anchor_boottime_ns"]), uncertainty_ns)


def _out_of_memory(batch_size: int, image_size: int) -> dict[str, Any]:
    """What a trainer would have said that the kernel has killed for lack of memory."""
    hint = memory_kills.hint(batch_size, image_size)
    message = f"the box ran out of memory and its kernel ended the training; {hint}"
    return {"event": "ended", "outcome": keeper.FAILED, "reason": keeper.OUT_OF_MEMORY, "message": message}


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
