"""The unit of a runner: stopping it never takes a training along, and nothing secret is in it."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from runner_agent import systemd

COMMAND = ["/opt/tether/bin/python", "-P", "-m", "runner_agent.launcher", "--state-dir", "/home/a/state/box-1"]


def unit(text: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(text)
    return found


def test_the_unit_of_the_box_word_for_word() -> None:
    assert systemd.unit_text("box-1", COMMAND, Path("/home/a/state/box-1"), system=True, run_as="a") == (
        "# Written by `tether-runner install`, removed by `tether-runner uninstall`.\n"
        "[Unit]\n"
        "Description=Tether runner box-1\n"
        "Wants=network-online.target\n"
        "After=network-online.target nvidia-persistenced.service\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "User=a\n"
        "ExecStart=/opt/tether/bin/python -P -m runner_agent.launcher --state-dir /home/a/state/box-1\n"
        "ExecReload=/bin/kill -USR1 $MAINPID\n"
        "WorkingDirectory=/home/a/state/box-1\n"
        "UMask=0077\n"
        "KillMode=process\n"
        "KillSignal=SIGTERM\n"
        "TimeoutStopSec=30\n"
        "OOMPolicy=continue\n"
        "Restart=always\n"
        "RestartPreventExitStatus=0\n"
        "RestartSec=5\n"
        "TasksMax=infinity\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def test_a_users_own_unit_starts_with_the_users_manager_and_names_no_user() -> None:
    found = unit(systemd.unit_text("box-1", COMMAND, Path("/home/a"), system=False))
    assert found["Install"]["WantedBy"] == "default.target"
    assert "User" not in found["Service"]


@pytest.mark.parametrize("folder", ["/srv/two words", "/srv/100%", "/srv/a$b", '/srv/"quoted"', "/srv/back\\slash"])
def test_a_folder_with_signs_that_mean_something_is_written_so_that_they_do_not(folder: str) -> None:
    text = systemd.unit_text("box-1", [*COMMAND[:-1], folder], Path(folder), system=True)
    word = unit(text)["Service"]["ExecStart"].split("--state-dir ")[1]
    for written, meant in (("$$", "$"), ("%%", "%")):
        word = word.replace(written, meant)
    if word.startswith('"'):
        word = word[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    assert word == folder


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here")
@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("folder", ["state", "two words", "100%", "a$b"])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, system: bool, folder: str) -> None:
    (tmp_path / folder).mkdir()
    path = tmp_path / systemd.unit_name("box-1")
    command = ["/bin/sh", "-c", "exit", "--state-dir", str(tmp_path / folder)]
    path.write_text(systemd.unit_text("box-1", command, tmp_path / folder, system=system))
    done = subprocess.run(
        ["systemd-analyze", "verify", *(() if system else ("--user",)), "--recursive-errors=no", "--man=no", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_only_what_lies_among_the_systems_units_is_a_system_unit() -> None:
    assert systemd.is_system(Path("/etc/systemd/system/tether-runner-a.service"))
    assert not systemd.is_system(Path("/home/a/.config/systemd/user/tether-runner-a.service"))
