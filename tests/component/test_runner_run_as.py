"""Root installs a service that runs under another user: what lies where, and whose it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.owner import Owner

NOBODY = 65534
UNIT = "tether-runner-box-1.service"

# The box of a real systemd, and an installation that everybody may read, are not to be had here.
RUN = """
import sys
from pathlib import Path
from runner_agent import cli, control, systemd
systemd.runs = lambda: True
systemd.SYSTEM_UNITS = Path(sys.argv[1])
systemd._systemctl = lambda unit, *arguments: print("systemctl", *arguments)
control.check_runs_as = lambda user: None
sys.argv = ["tether-runner", *sys.argv[2:]]
cli.main()
"""

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root installs for others")


def test_everything_but_the_service_belongs_to_the_user_and_root_finds_the_runner_by_its_name(
    open_folder: Path,
) -> None:
    owner = Owner(open_folder / "root", "127.0.0.1:1")
    units, home = open_folder / "units", open_folder / "home"
    for folder in (units, home):
        folder.mkdir()
    os.chown(home, NOBODY, NOBODY)

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(units), *arguments],
            env=owner.environment,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    install = ("install", "--server", "127.0.0.1:1", "--name", "box-1", "--simulate-gpus", "NVIDIA T4:1")
    said = command(*install, "--run-as", "nobody", "--state-dir", str(home / "box-1"))
    assert "systemctl daemon-reload\nsystemctl enable" in said
    text = (units / UNIT).read_text()
    assert "User=nobody\n" in text
    assert f"--state-dir {home / 'box-1'}\n" in text
    assert "tk_" not in text
    assert (units / UNIT).stat().st_uid == 0
    assert {path.stat().st_uid for path in (home / "box-1").rglob("*")} == {NOBODY}
    link = open_folder / "root" / "tether-runner" / "box-1"
    assert link.readlink() == home / "box-1"
    assert "not running" in command("status", "--name", "box-1")
    assert "is suspended" in command("suspend", "--name", "box-1")
    assert {path.stat().st_uid for path in (home / "box-1").rglob("*")} == {NOBODY}
    assert "systemctl disable --now" in command("uninstall", "--yes")
    assert not (units / UNIT).exists()
    assert not link.is_symlink()
    assert not (home / "box-1").exists()


def test_a_user_who_cannot_run_the_installation_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    owner = Owner(tmp_path, "127.0.0.1:1")
    script = RUN.replace("lambda user: None", "control.check_runs_as").replace(
        "cli.main()", 'sys.executable = "/nonexistent/python"\ncli.main()'
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "install", "--server", "127.0.0.1:1", "--run-as", "nobody"],
        env=owner.environment,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "nobody cannot run /nonexistent/python" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["gates"]
