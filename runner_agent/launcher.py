"""The launcher's process: `python -m runner_agent.launcher --state-dir DIR`.

Parent of the agent, which it starts again when it dies, and of one keeper with a warm trainer, ready for the next
attempt. Uses no gRPC, so that it may fork. A training that runs outlives it. SIGTERM and SIGINT stop it; on SIGUSR1
it ends agent and warm pair and begins anew in the same process, from the code as it is installed then. Where its owner
wants the runner to stop after its training it stops by itself when that is over and told.

Ends with exit code 0 only where it was told to stop, so that a service manager knows when to start it again.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from runner_agent import clock, draining, files, keeper_client, keeper_process, logs, suspension
from runner_agent.config import BoxConfig, StateFolder, installed_runners
from runner_agent.errors import BoxError
from runner_agent.gpu_claims import Claims, check_disjoint, other_runners
from runner_agent.locks import Lock
from runner_agent.processes import RESTART_SIGNAL, die_with_parent

LOOK_INTERVAL_S = 0.25
SECOND_NS = 1_000_000_000
FIRST_BACKOFF_NS = SECOND_NS // 2
LONGEST_BACKOFF_NS = 30 * SECOND_NS
# A child that lived this long has not failed at its start.
SETTLED_NS = 30 * SECOND_NS
# The next pair imports torch only when the attempt that took the last one is past its first steps.
REPLACEMENT_DELAY_NS = 3 * SECOND_NS
AGENT_GRACE_S = 5.0
KEEPER_GRACE_S = 5.0
ERROR_OUTPUT_BYTES = 5 * 1024 * 1024

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


@dataclass
class Backoff:
    """When a child that keeps dying may be started again."""

    delay_ns: int = FIRST_BACKOFF_NS
    due_ns: int = 0

    def died(self, lived_ns: int, now_ns: int) -> None:
        if lived_ns >= SETTLED_NS:
            self.delay_ns = FIRST_BACKOFF_NS
        self.due_ns = now_ns + self.delay_ns
        self.delay_ns = min(LONGEST_BACKOFF_NS, 2 * self.delay_ns)

    def worked(self) -> None:
        self.delay_ns, self.due_ns = FIRST_BACKOFF_NS, 0


class Launcher:
    """Needs its signals blocked, and waits for them itself."""

    def __init__(self, folder: StateFolder, claims: Claims) -> None:
        self._folder = folder
        self._claims = claims
        self._sockets = folder.make_keepers()
        self._errors = _error_output(folder.error_output)
        self._environment = {name: value for name, value in os.environ.items() if name != "TETHER_RUNNER_KEY"}
        self._agent: subprocess.Popen[bytes] | None = None
        self._agent_started_ns = 0
        self._agent_backoff = Backoff()
        # What stood in the agent's status before the present agent: an earlier one wrote it.
        self._old_status = draining.NO_STATUS
        self._drain = draining.Drain()
        self._warm: subprocess.Popen[bytes] | None = None
        self._warm_pair = ""
        self._warm_started_ns = 0
        self._warm_backoff = Backoff()
        # Keepers with an attempt that this launcher has started; they only need to be collected.
        self._taken: list[subprocess.Popen[bytes]] = []
        # Pids of keepers that the launcher before it in this process has started; to be collected as well.
        self._inherited = [child.pid for child in psutil.Process().children()]

    def run(self) -> bool:
        """Until it is told to stop; True where it is to begin anew."""
        keeper_client.remove_stale(self._sockets)
        log.info("launcher started", state=str(self._folder.root))
        while (told := _told()) is None:
            now_ns = clock.boottime_ns()
            self._look_after_agent(now_ns)
            self._look_after_pair(now_ns)
            self._taken = [keeper for keeper in self._taken if keeper.poll() is None]
            self._inherited = [pid for pid in self._inherited if not _collected(pid)]
            self._claims.clear_questions()
            if self._drained(now_ns):
                log.info("nothing is left to train or to tell; stopping, as its owner wanted")
                self._stop()
                # The next start is an ordinary one.
                suspension.take_back_drain(self._folder.suspension)
                return False
        again = told == RESTART_SIGNAL
        log.info("launcher begins anew" if again else "launcher stops")
        self._stop()
        return again

    def _look_after_agent(self, now_ns: int) -> None:
        if self._agent is not None and self._agent.poll() is not None:
            log.warning("the agent has ended", code=self._agent.returncode)
            self._agent = None
            self._agent_backoff.died(now_ns - self._agent_started_ns, now_ns)
        if self._agent is None and now_ns >= self._agent_backoff.due_ns:
            command = [sys.executable, "-P", "-m", "runner_agent.agent", "--state-dir", str(self._folder.root)]
            self._old_status = draining.version_of(self._folder.status)
            self._agent = self._spawn(command, dies_with_launcher=True)
            self._agent_started_ns = now_ns

    def _look_after_pair(self, now_ns: int) -> None:
        if self._warm is not None:
            status = keeper_client.ask(self._socket(self._warm_pair), cmd="status")
            if status is not None and status.get("attempt_id"):
                self._taken.append(self._warm)
                self._warm = None
                self._warm_backoff.worked()
                self._warm_backoff.due_ns = now_ns + REPLACEMENT_DELAY_NS
            elif self._warm.poll() is not None:
                log.warning("the warm trainer's keeper has ended", code=self._warm.returncode)
                self._socket(self._warm_pair).unlink(missing_ok=True)
                self._warm = None
                self._warm_backoff.died(now_ns - self._warm_started_ns, now_ns)
        if self._warm is None and now_ns >= self._warm_backoff.due_ns:
            self._warm_pair = uuid.uuid4().hex[:16]
            command = [sys.executable, "-I", "-S", "-E", str(keeper_process.__file__)]
            command += ["--socket", str(self._socket(self._warm_pair)), "--pair", self._warm_pair, "--"]
            self._warm = self._spawn([*command, sys.executable, "-P", "-m", "runner_agent.trainer"])
            self._warm_started_ns = now_ns

    def _drained(self, now_ns: int) -> bool:
        """Whether the runner is to stop after its training, and nothing is left for it to do."""
        if not suspension.read(self._folder.suspension).draining:
            self._drain = draining.Drain()
            return False
        fresh = self._agent is not None and draining.version_of(self._folder.status) != self._old_status
        status = files.read_json(self._folder.status) if fresh else None
        self._drain = self._drain.seen(status, bool(keeper_client.held(self._sockets)), now_ns)
        return self._drain.done(now_ns)

    def _socket(self, pair: str) -> Path:
        return self._sockets / f"{pair}.sock"

    def _spawn(self, command: list[str], *, dies_with_launcher: bool = False) -> "subprocess.Popen[bytes]":
        launcher_pid = os.getpid()

        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            if dies_with_launcher:
                die_with_parent(launcher_pid)

        return subprocess.Popen(
            command,
            # Its end tells a keeper that the launcher is gone.
            stdin=subprocess.PIPE,
            stdout=self._errors,
            stderr=self._errors,
            cwd=self._folder.root,
            env=self._environment,
            start_new_session=True,
            preexec_fn=prepare,
        )

    def _stop(self) -> None:
        """End the agent and the warm pair; a keeper that holds an attempt goes on until its deadline."""
        if self._agent is not None:
            self._agent.terminate()
            _wait(self._agent, AGENT_GRACE_S)
        if self._warm is not None and self._warm.stdin is not None:
            self._warm.stdin.close()
            status = keeper_client.ask(self._socket(self._warm_pair), cmd="status")
            if status is None or not status.get("attempt_id"):
                _wait(self._warm, KEEPER_GRACE_S)


def _told() -> int | None:
    """The signal for this process that has come, after a while; None where none has.

    Not from sigtimedwait with a time limit: Python's returns a signal that never came where the process was stopped
    (SIGSTOP, a frozen container) for longer than that time.
    """
    time.sleep(LOOK_INTERVAL_S)
    pending = signal.sigpending() & {*STOP_SIGNALS, RESTART_SIGNAL}
    return signal.sigwait(pending) if pending else None


def _wait(process: "subprocess.Popen[bytes]", grace_s: float) -> None:
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _collected(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _error_output(path: Path) -> int:
    """Where children print what they cannot log; begun anew when it has grown large."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    if path.exists() and path.stat().st_size > ERROR_OUTPUT_BYTES:
        flags |= os.O_TRUNC
    return os.open(path, flags, 0o600)


def _claimed(folder: StateFolder, config: BoxConfig) -> Claims:
    """Raises BoxError where a GPU of the runner is another one's."""
    claims = Claims()
    try:
        check_disjoint(config.gpu_uuids, other_runners(folder, installed_runners()), {})
        if not config.simulate_gpus:
            claims.take(config.gpu_uuids, "stop one of the two")
    except BoxError as error:
        log.error("the runner cannot start", reason=str(error))
        raise
    return claims


def main() -> int:
    parser = argparse.ArgumentParser(prog="runner_agent.launcher", description="Run an installed runner.")
    parser.add_argument("--state-dir", type=Path, required=True)
    folder = StateFolder(parser.parse_args().state_dir)
    # Before anyone can know the pid. Children inherit the mask; `_spawn` clears it for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP_SIGNALS, RESTART_SIGNAL})
    try:
        config = folder.load()
        lock = Lock(folder.lock)
        if not lock.acquire():
            raise BoxError(f"the runner in {folder.root} is running already (pid {lock.holder()})")
        logs.configure(folder.launcher_log)
        claims = _claimed(folder, config)
        folder.launcher_pid.write_text(str(os.getpid()))
        try:
            if Launcher(folder, claims).run():
                # What the agent before has told is not so any more.
                folder.status.unlink(missing_ok=True)
                # Locks and pipes are closed by it; keepers with an attempt stay children of this process.
                os.execv(sys.executable, sys.orig_argv)
        finally:
            folder.launcher_pid.unlink(missing_ok=True)
    except BoxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
