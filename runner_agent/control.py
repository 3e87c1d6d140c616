"""What the commands of the box do to a runner: install, start, restart, suspend it, and see how it is."""

import contextlib
import json
import os
import pwd
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner_agent import clock, files, gpu_claims, keeper_client, ownership, suspension, systemd
from runner_agent.config import KEY_PATTERN, BoxConfig, StateFolder, installed_runners, parse_server
from runner_agent.errors import BoxError
from runner_agent.locks import Lock
from runner_agent.processes import RESTART_SIGNAL

LOOK_INTERVAL_S = 0.1
START_TIMEOUT_S = 15.0
LOCK_TIMEOUT_S = 5.0
IMPORT_TIMEOUT_S = 60.0
# The agent looks twice a second, and what it then says is on its way.
SUSPENSION_TIMEOUT_S = 3.0
# The launcher ends agent and warm pair, with a grace of 5 s each, and starts again; then as for a start.
RESTART_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Runner:
    """How a runner is at one moment."""

    folder: StateFolder
    config: BoxConfig
    launcher_pid: int
    # Statuses of the keepers that hold an attempt.
    held: list[dict[str, Any]]
    # What the agent wrote last; empty where it never ran, or ran before the last boot.
    agent: dict[str, Any]

    @property
    def running(self) -> bool:
        return self.launcher_pid > 0

    @property
    def waiting(self) -> str:
        """Id of an attempt that the platform has assigned and that no keeper holds yet; empty without one."""
        attempt = self.agent.get("attempt") if self.running and not self.held else None
        return str(attempt["attempt_id"]) if attempt and attempt.get("place") == "waiting" else ""

    @property
    def draining(self) -> bool:
        """Whether it stops after its training."""
        return suspension.read(self.folder.suspension).draining

    @property
    def unit(self) -> Path | None:
        """File of its systemd unit, where systemd is there to heed it."""
        return Path(self.config.unit) if self.config.unit and systemd.runs() else None


def look(folder: StateFolder) -> Runner:
    """Raises BoxError where no runner is installed in the folder."""
    config = folder.load()
    held = list(keeper_client.held(folder.keepers).values())
    agent = files.read_json(folder.status) or {}
    if Lock(folder.agent_lock).holder() == 0:
        # What an agent that has died wrote last is not so any more.
        agent["connected"] = False
    return Runner(folder, config, Lock(folder.lock).holder(), held, agent)


def install(folder: StateFolder, config: BoxConfig, key: str, *, insecure: bool) -> None:
    """Write the runner's files. Raises BoxError for a wrong key, a plain connection to afar, or a second runner."""
    if folder.config.exists():
        raise BoxError(f"a runner is installed in {folder.root} already; uninstall it first, or use another --name")
    check_key(key)
    server = parse_server(config.server)
    if not (server.tls or server.loopback or insecure):
        raise BoxError(
            f"the connection to {server.target} would not be encrypted and would show the secret key; "
            f"write --server https://{server.target}, or allow it with --insecure"
        )
    folder.attempts.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.root.chmod(0o700)
    files.replace(folder.secret_key, key.encode() + b"\n")
    if not folder.installation_id.exists():
        files.replace(folder.installation_id, uuid.uuid4().hex.encode() + b"\n")
    folder.save(config)


def check_key(key: str) -> None:
    """Raises BoxError for what cannot be a runner's secret key."""
    if not KEY_PATTERN.fullmatch(key):
        raise BoxError("the secret key is not one: it begins with tk_ and has 46 characters; copy it again")


def check_runs_as(user: pwd.struct_passwd) -> None:
    """Raises BoxError where the user cannot run this installation."""
    try:
        subprocess.run(
            [sys.executable, "-P", "-c", "import runner_agent.launcher"],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=IMPORT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        raise BoxError(
            f"{user.pw_name} cannot run {sys.executable}; install the agent where everybody may read it, "
            "below /opt for example"
        ) from None


def launcher_command(folder: StateFolder) -> list[str]:
    return [sys.executable, "-P", "-m", "runner_agent.launcher", "--state-dir", str(folder.root)]


def start(folder: StateFolder) -> Runner:
    """Start the launcher, by systemd or in the background, and wait until its agent is connected or says why not.

    A wish to stop after the training is taken back. Raises BoxError where the runner runs already, a GPU of it is
    another runner's, or its launcher ends at once.
    """
    before = look(folder)
    if before.running:
        raise BoxError(f"the runner is running already (pid {before.launcher_pid}); see `tether-runner status`")
    gpu_claims.check_disjoint(before.config.gpu_uuids, gpu_claims.other_runners(folder, installed_runners()), {})
    if before.draining:
        suspension.take_back_drain(folder.suspension)
    folder.status.unlink(missing_ok=True)
    check = _start_unit(before.unit, folder) if before.unit is not None else _start_process(folder)

    def settled() -> bool:
        check()
        status = files.read_json(folder.status) or {}
        return bool(status.get("connected") or status.get("error"))

    wait_until(settled, START_TIMEOUT_S)
    return look(folder)


def _start_unit(unit: Path, folder: StateFolder) -> Callable[[], None]:
    if not systemd.may_change(unit):
        raise BoxError(f"this runner is a service of the box; start it with: sudo systemctl start {unit.name}")
    systemd.start(unit)
    held = wait_until(lambda: Lock(folder.lock).holder() > 0, LOCK_TIMEOUT_S)

    def check() -> None:
        if not held or Lock(folder.lock).holder() == 0:
            raise BoxError("the runner does not stay up; see `tether-runner logs`, systemd goes on trying")

    return check


def _start_process(folder: StateFolder) -> Callable[[], None]:
    user, group = ownership.child_ids()
    with folder.error_output.open("ab") as errors:
        said_before = errors.tell()
        launcher = subprocess.Popen(
            launcher_command(folder),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            cwd=folder.root,
            user=user,
            group=group,
        )

    def check() -> None:
        if launcher.poll() is not None:
            lines = folder.error_output.read_bytes()[said_before:].decode(errors="replace").splitlines()
            raise BoxError(f"the runner ended at once: {lines[-1] if lines else f'see {folder.error_output}'}")

    return check


def restart(runner: Runner) -> Runner:
    """Have launcher and agent begin anew, from the code as it is installed now; a training goes on with its keeper.

    Starts a runner that does not run. The launcher keeps its pid, so that a service manager takes no notice.
    Returns once the new agent is connected or says why not. Raises BoxError where there is none in time.
    """
    folder = runner.folder
    if not runner.running:
        return start(folder)
    before = Lock(folder.agent_lock).holder()
    folder.status.unlink(missing_ok=True)
    try:
        os.kill(runner.launcher_pid, RESTART_SIGNAL)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise BoxError(f"the runner (pid {runner.launcher_pid}) is another user's; restart it as that user") from None
    ended = False

    def settled() -> bool:
        nonlocal ended
        ended = Lock(folder.lock).holder() == 0 and not _alive(runner.launcher_pid)
        agent = Lock(folder.agent_lock).holder()
        if ended or (agent == before and before):
            return ended
        # The launcher has removed what the agent before has written.
        status = files.read_json(folder.status) or {}
        return bool((agent and status.get("connected")) or status.get("error"))

    done = wait_until(settled, RESTART_TIMEOUT_S)
    if ended:
        # Of an older version, or it died of something else meanwhile.
        return start(folder)
    if not done and Lock(folder.agent_lock).holder() in (0, before):
        raise BoxError("the runner does not restart; see `tether-runner logs`, then stop and start it")
    return look(folder)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, 0)
        return True
    return False


def suspend(runner: Runner, wanted: suspension.OwnerSuspension) -> bool:
    """Suspend for the box's owner, in place of an earlier time. True once the platform knows. Raises BoxError."""
    suspension.save(runner.folder.suspension, wanted)
    return wait_until_suspension_told(runner)


def resume(runner: Runner) -> bool:
    """Lift the owner's suspension. True once the platform knows. Raises BoxError."""
    suspension.lift(runner.folder.suspension)
    return wait_until_suspension_told(runner)


def take_back_drain(runner: Runner) -> bool:
    """Have the runner go on after its training. True once the platform knows. Raises BoxError."""
    suspension.take_back_drain(runner.folder.suspension)
    return wait_until_suspension_told(runner)


def wait_until_suspension_told(runner: Runner) -> bool:
    """True once the platform knows how the owner's suspension stands; False where that takes too long."""
    stands = suspension.current(runner.folder.suspension, suspension_now())
    reason = None if stands is None else stands.reason

    def told() -> bool:
        status = files.read_json(runner.folder.status) or {}
        held = status.get("suspensions", {}).get("box_owner")
        return bool(status.get("suspensions_told")) and held == reason

    connected = runner.running and bool(runner.agent.get("connected"))
    return connected and wait_until(told, SUSPENSION_TIMEOUT_S)


def suspension_now() -> suspension.Now:
    return suspension.Now(clock.boot_id(), clock.boottime_ns(), clock.wall_ms())


def suspensions(runner: Runner) -> list[dict[str, Any]]:
    """What suspends the runner: its owner's as it stands on disk, the others as the agent told them last."""
    found: list[dict[str, Any]] = []
    now = suspension_now()
    own = suspension.current(runner.folder.suspension, now)
    if own is not None:
        left_ms = own.left_ms(now)
        ends_in_s = None if left_ms is None else -(-left_ms // 1000)
        found.append({"owner": "box_owner", "reason": own.reason, "ends_in_s": ends_in_s})
    status = runner.agent if runner.running else {}
    if health := status.get("suspensions", {}).get("health"):
        found.append({"owner": "health", "reason": health, "ends_in_s": None})
    if status.get("suspended_by_admin"):
        found.append({"owner": "admin", "reason": "suspended by an admin of the platform", "ends_in_s": None})
    return found


def _simulated(spec: str) -> list[str]:
    """Types of the GPUs of a spec that was accepted at the installation."""
    kind, _, number = spec.partition(":")
    return [kind.strip()] * int(number or 1) if spec else []


def as_json(runner: Runner) -> dict[str, Any]:
    """Everything that `tether-runner status` knows."""
    status = runner.agent if runner.running else {}
    now_ns = clock.boottime_ns()
    heard_ns = status.get("last_ack_boottime_ns") or 0
    held = runner.held[0] if runner.held else None
    training = None
    if held is not None:
        started_ns = held.get("started_boottime_ns")
        training = {
            "attempt_id": held["attempt_id"],
            "job_id": held["job_id"],
            "phase": held["phase"],
            "stop_reason": held["stop_reason"],
            "step": held["step"],
            "epoch": held["epoch"],
            # What had no room in the spools, by kind.
            "dropped": held.get("dropped", {}),
            "running_s": (now_ns - started_ns) // 1_000_000_000 if started_ns else 0,
            "ends_itself_in_s": max(0, held["deadline_boottime_ns"] - now_ns) // 1_000_000_000,
        }
    return {
        "name": runner.config.name,
        "state_dir": str(runner.folder.root),
        "server": runner.config.server,
        "running": runner.running,
        "launcher_pid": runner.launcher_pid,
        "connected": bool(status.get("connected")),
        "runner_id": status.get("runner_id", ""),
        "runner_name": status.get("runner_name", ""),
        "error": status.get("error", ""),
        "last_ack_age_s": (now_ns - heard_ns) / 1e9 if heard_ns else None,
        "gpus": runner.agent.get("gpus") or _simulated(runner.config.simulate_gpus),
        "gpu_uuids": list(runner.config.gpu_uuids),
        "simulated": bool(runner.config.simulate_gpus),
        "warm": bool(status.get("warm")),
        "suspended_by_admin": bool(status.get("suspended_by_admin")),
        "suspensions": suspensions(runner),
        "stops_after_training": runner.draining,
        "training": training,
        "unreported": status.get("unreported", 0),
        "unshipped_bytes": status.get("unshipped_bytes", 0),
    }


def log_entries(folder: StateFolder, lines: int) -> list[dict[str, Any]]:
    """The last entries of launcher and agent, by time."""
    entries = []
    for source, path in (("launcher", folder.launcher_log), ("agent", folder.agent_log)):
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_text(errors="replace").splitlines()[-lines:]:
                entries.append(log_entry(source, line))
    return sorted(entries, key=lambda entry: str(entry.get("timestamp", "")))[-lines:]


def log_entry(source: str, line: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict):
            return {"source": source, **entry}
    return {"source": source, "event": line}


def wait_until(look: Callable[[], bool], timeout_s: float) -> bool:
    end_ns = clock.boottime_ns() + int(timeout_s * 1e9)
    while not look():
        if clock.boottime_ns() >= end_ns:
            return False
        time.sleep(LOOK_INTERVAL_S)
    return True
