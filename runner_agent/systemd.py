"""A runner as a service of systemd: the unit's text, and what is asked of `systemctl`.

A system unit where root installs, a unit of the user's own manager otherwise. Paths of units are all that is known of
them here: what lies below `SYSTEM_UNITS` is a system unit.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from runner_agent import ownership
from runner_agent.errors import BoxError

# There where systemd is the box's first process (sd_booted).
BOOTED = Path("/run/systemd/system")
SYSTEM_UNITS = Path("/etc/systemd/system")
SYSTEMCTL_TIMEOUT_S = 60.0

# KillMode and OOMPolicy: neither a stop nor the kernel's kill of one process may take a training along; it is the
# keeper that ends it. RestartPreventExitStatus: the launcher ends with 0 only where it was told to stop.
# KillSignal and ExecReload: see runner_agent/launcher.py. No environment: the secret key is in the state folder only.
_UNIT = """\
# Written by `tether-runner install`, removed by `tether-runner uninstall`.
[Unit]
Description=Tether runner {name}
Wants=network-online.target
After=network-online.target nvidia-persistenced.service
StartLimitIntervalSec=0

[Service]
{user}ExecStart={command}
ExecReload=/bin/kill -USR1 $MAINPID
WorkingDirectory={folder}
UMask=0077
KillMode=process
KillSignal=SIGTERM
TimeoutStopSec=30
OOMPolicy=continue
Restart=always
RestartPreventExitStatus=0
RestartSec=5
TasksMax=infinity

[Install]
WantedBy={target}
"""


def runs() -> bool:
    """Whether systemd runs this box."""
    return BOOTED.is_dir() and shutil.which("systemctl") is not None


def unit_name(runner: str) -> str:
    return f"tether-runner-{runner}.service"


def unit_path(runner: str) -> Path:
    """Where the unit of a runner is written by this user."""
    if os.getuid() == 0:
        return SYSTEM_UNITS / unit_name(runner)
    configuration = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(configuration) / "systemd" / "user" / unit_name(runner)


def unit_text(runner: str, command: Sequence[str], folder: Path, *, system: bool, run_as: str = "") -> str:
    """The unit. `run_as`: the user of a system unit, root if empty. Pure."""
    return _UNIT.format(
        name=runner,
        user=f"User={run_as}\n" if run_as else "",
        command=" ".join(_word(part) for part in command),
        # Not a command line: nothing but the specifiers' sign means something in it.
        folder=str(folder).replace("%", "%%"),
        target="multi-user.target" if system else "default.target",
    )


def _word(text: str) -> str:
    """One word of ExecStart."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[^A-Za-z0-9_./@:%$+=,-]", text) else escaped


def is_system(unit: Path) -> bool:
    return unit.parent == SYSTEM_UNITS


def write(unit: Path, text: str) -> None:
    """Write a unit and have it started at every boot. Raises BoxError, and leaves no unit then."""
    try:
        with ownership.as_caller():
            unit.parent.mkdir(parents=True, exist_ok=True)
            with unit.open("x") as file:
                file.write(text)
    except FileExistsError:
        raise BoxError(f"{unit} exists already; choose another --name, or remove that file") from None
    except OSError as error:
        raise BoxError(f"cannot write {unit}: {error.strerror}; install with --no-service instead") from None
    try:
        _systemctl(unit, "daemon-reload")
        _systemctl(unit, "enable", unit.name)
    except BoxError as error:
        with ownership.as_caller():
            unit.unlink(missing_ok=True)
        raise BoxError(f"{error}; install with --no-service instead") from None


def start(unit: Path) -> None:
    """Raises BoxError where systemd does not start it."""
    _systemctl(unit, "start", unit.name)


def stop(unit: Path) -> None:
    """Stop it, and end its being started again. Raises BoxError."""
    _systemctl(unit, "stop", unit.name)


def may_change(unit: Path) -> bool:
    """Whether this user may remove it, or start and stop what it describes."""
    return os.getuid() == 0 or not is_system(unit)


def remove(unit: Path) -> str:
    """Disable and remove a unit. Returns why systemd was not content with it; empty where it was. Raises BoxError."""
    untold = ""
    try:
        _systemctl(unit, "disable", "--now", unit.name)
    except BoxError as error:
        # A box that was booted without systemd since; the unit must go nevertheless.
        untold = str(error)
    try:
        with ownership.as_caller():
            unit.unlink(missing_ok=True)
    except OSError as error:
        raise BoxError(f"cannot remove {unit}: {error.strerror}; remove it, then uninstall again") from None
    if not untold:
        _systemctl(unit, "daemon-reload")
    return untold


def enable_linger() -> bool:
    """Have this user's services run without a login as well; False where that is not allowed."""
    try:
        done = subprocess.run(
            ["loginctl", "--no-ask-password", "enable-linger"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SYSTEMCTL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _systemctl(unit: Path, *arguments: str) -> None:
    command = ["systemctl", "--no-ask-password", *(() if is_system(unit) else ("--user",)), *arguments]
    try:
        with ownership.as_caller():
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SYSTEMCTL_TIMEOUT_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BoxError(f"`{' '.join(command)}` failed: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise BoxError(f"`{' '.join(command)}` failed: {said[0] if said else f'exit code {done.returncode}'}")
