"""What ends on a box: a training, a runner at once or after its training, and what was installed."""

import os
import shutil
import signal
from pathlib import Path

from runner_agent import files, keeper_client, suspension, systemd
from runner_agent.config import StateFolder
from runner_agent.control import Runner, wait_until, wait_until_suspension_told
from runner_agent.errors import BoxError
from runner_agent.locks import Lock

# The grace of 30 s for the checkpoint, and what comes after it.
STOP_TRAINING_TIMEOUT_S = 50.0
# Until an assigned training is in its keeper: as long as loading the training libraries takes.
HOLD_TIMEOUT_S = 30.0
TELL_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 20.0
# As for a stop, after the moment in which nothing new may come.
DRAIN_TIMEOUT_S = 25.0


def stop_training(runner: Runner, reason: str, message: str) -> bool:
    """Stop what the runner trains, which saves a checkpoint; True once nothing of it runs any more.

    A training that is about to start is stopped as soon as a keeper has it, if that comes in time.
    """
    folder = runner.folder
    if runner.waiting:
        wait_until(lambda: bool(keeper_client.held(folder.keepers)) or _attempt(folder) is None, HOLD_TIMEOUT_S)
    for path in keeper_client.held(folder.keepers):
        keeper_client.ask(path, cmd="stop", reason=reason, message=message)
    return wait_until(lambda: not keeper_client.held(folder.keepers), STOP_TRAINING_TIMEOUT_S)


def _attempt(folder: StateFolder) -> object:
    return (files.read_json(folder.status) or {}).get("attempt")


def wait_until_told(folder: StateFolder) -> bool:
    """True once the agent has told the platform everything; False where that takes too long or it is cut off."""

    def told() -> bool:
        status = files.read_json(folder.status) or {}
        return status.get("attempt") is None and not status.get("unreported") and not status.get("unshipped_bytes")

    status = files.read_json(folder.status) or {}
    return bool(status.get("connected")) and wait_until(told, TELL_TIMEOUT_S)


def stop(runner: Runner) -> None:
    """End launcher and agent, and their being started again. Raises BoxError where the launcher does not end."""
    if runner.unit is not None and systemd.may_change(runner.unit):
        systemd.stop(runner.unit)
    pid = Lock(runner.folder.lock).holder()
    if pid:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        except PermissionError:
            raise BoxError(f"the runner (pid {pid}) is another user's; stop it as that user, or as root") from None
    if not wait_until(lambda: Lock(runner.folder.lock).holder() == 0, STOP_TIMEOUT_S):
        raise BoxError(f"the launcher (pid {pid}) does not end; see `tether-runner logs`")


def stop_after_training(runner: Runner) -> bool:
    """Have the runner accept nothing new, finish and tell what it has, and stop. True once the platform knows.

    The launcher sees to it, also one that is started meanwhile. Raises BoxError.
    """
    suspension.drain(runner.folder.suspension)
    return wait_until_suspension_told(runner)


def wait_until_stopped(runner: Runner) -> bool:
    return wait_until(lambda: Lock(runner.folder.lock).holder() == 0, DRAIN_TIMEOUT_S)


def checkpoints(folder: StateFolder) -> list[Path]:
    return sorted(folder.attempts.glob("*/checkpoints/*"))


def remove(folder: StateFolder, *, keep_checkpoints: bool) -> None:
    """Remove what was installed; checkpoints only where `keep_checkpoints` is False."""
    shutil.rmtree(folder.keepers, ignore_errors=True)
    if not keep_checkpoints:
        shutil.rmtree(folder.root)
        return
    # First what makes it an installed runner.
    folder.config.unlink()
    for path in folder.root.iterdir():
        if path == folder.attempts:
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
