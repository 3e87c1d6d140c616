"""A box that systemd runs, as far as a runner can tell: a real manager behind mounts that only its own processes see.

The manager is started as a user's and answers where the box's own would, with an empty folder of units: `systemctl`,
units, cgroups, restarts and stops are systemd's own. The rest of the machine takes no notice.
"""

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
# Version 2 alone, or both beside each other: systemd keeps its processes in all of these.
HIERARCHIES = ("", "unified", "systemd")

_BEGIN = """
set -e
for cgroup in {cgroups}; do echo $$ > $cgroup/cgroup.procs; done
# A manager takes along what shares its group: it must be alone, and is not begun otherwise.
! grep -E '^(0:|[0-9]+:name=systemd):' /proc/self/cgroup | grep -v '/{name}$'
mount -t tmpfs tmpfs /run/systemd
mount -t tmpfs tmpfs /etc/systemd/system
mkdir -p /run/systemd/system {runtime}/systemd
ln -s {runtime}/systemd/private /run/systemd/private
for target in default basic shutdown exit multi-user; do
    printf '[Unit]\\nDescription=%s\\n' $target > /etc/systemd/system/$target.target
done
exec env -i PATH="$PATH" HOME={home} XDG_RUNTIME_DIR={runtime} \
    SYSTEMD_UNIT_PATH={home}/.config/systemd/user:/etc/systemd/system {systemd} --user --log-target=console
"""


def missing() -> str:
    """Why there can be no such box here; empty where there can.

    A manager may take along processes that it finds in its control groups, so this is for a machine that is thrown
    away afterwards, and has to be asked for.
    """
    if not os.environ.get("TETHER_TEST_SYSTEMD"):
        return "a systemd of its own is for a machine that is thrown away afterwards: ask with TETHER_TEST_SYSTEMD=1"
    if os.getuid() != 0:
        return "only root can start a systemd of its own; run the tests as root"
    if not SYSTEMD.exists() or shutil.which("systemctl") is None:
        return "systemd is not installed"
    if Path("/run/systemd/system").exists():
        return "this machine is run by systemd itself, and a second one would answer to its name"
    return "" if _hierarchies() else "there are no control groups below /sys/fs/cgroup that systemd could use"


def _hierarchies() -> list[Path]:
    found = [Path("/sys/fs/cgroup", name) for name in HIERARCHIES]
    return [path for path in found if (path / "cgroup.procs").exists() and os.access(path / "cgroup.procs", os.W_OK)]


@contextmanager
def systemd_box(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yields what to put before a command so that it runs on that box. Its processes are killed at the end."""
    name = f"tether-test-{uuid.uuid4().hex[:8]}"
    cgroups = [hierarchy / name for hierarchy in _hierarchies()]
    for cgroup in cgroups:
        cgroup.mkdir()
    # Sockets have short names only.
    runtime = Path("/tmp") / name
    runtime.mkdir(mode=0o700)
    script = _BEGIN.format(
        name=name, cgroups=" ".join(str(one) for one in cgroups), runtime=runtime, home=folder, systemd=SYSTEMD
    )
    with (folder / "systemd.log").open("wb") as log:
        manager = subprocess.Popen(["unshare", "--mount", "bash", "-c", script], stdout=log, stderr=log)
    try:
        yield "nsenter", "--mount", f"--target={manager.pid}", "--"
    finally:
        manager.kill()
        manager.wait()
        for left in {pid for cgroup in cgroups for pid in _processes(cgroup)}:
            os.kill(left, signal.SIGKILL)
        shutil.rmtree(runtime)
        for cgroup in cgroups:
            for inner in sorted(cgroup.rglob("*"), reverse=True):
                if inner.is_dir():
                    _remove(inner)
            _remove(cgroup)


def _processes(cgroup: Path) -> list[int]:
    files = [cgroup / "cgroup.procs", *cgroup.glob("*/**/cgroup.procs")]
    return [int(line) for file in files for line in file.read_text().split()]


def _remove(cgroup: Path) -> None:
    # Busy for as long as the kernel is not done with the processes that were killed.
    for _ in range(200):
        try:
            cgroup.rmdir()
            return
        except OSError:
            if not cgroup.exists():
                return
            subprocess.run(["sleep", "0.02"], check=True)
