"""A runner as a service of a real systemd: what is stopped, what goes on, what is started again."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runner_agent.attempts import AttemptFolder
from tests.support import systemd_box
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.keeper_under_test import alive
from tests.support.owner import Owner

UNIT = "tether-runner-box-1.service"

pytestmark = [pytest.mark.mounts, pytest.mark.skipif(bool(systemd_box.missing()), reason=systemd_box.missing())]


class Box:
    def __init__(self, owner: Owner, enter: tuple[str, ...]) -> None:
        self.owner, self._enter = owner, enter

    def systemctl(self, *arguments: str) -> str:
        command = [*self._enter, "systemctl", *arguments]
        done = subprocess.run(command, text=True, capture_output=True, timeout=60, check=False)
        return done.stdout.strip() or done.stderr.strip()

    def property(self, name: str) -> str:
        return self.systemctl("show", "--value", f"--property={name}", UNIT)

    def unit_text(self) -> str:
        command = [*self._enter, "cat", f"/etc/systemd/system/{UNIT}"]
        return subprocess.run(command, text=True, capture_output=True, timeout=60, check=False).stdout


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler().start()
    yield platform
    await platform.stop()


@pytest.fixture
async def box(tmp_path: Path, platform: FakeScheduler) -> AsyncIterator[Box]:
    with systemd_box.systemd_box(tmp_path) as enter:
        owner = Owner(tmp_path / "home", platform.address, enter=enter)
        box = Box(owner, enter)
        await eventually(lambda: "running" in box.systemctl("is-system-running"), what="systemd")
        # What a service would not have of a shell; the unit names none of it.
        box.systemctl("import-environment")
        names = ("PYTHONPATH", "TETHER_TEST_GATES", "XDG_DATA_HOME")
        box.systemctl("set-environment", *(f"{name}={owner.environment[name]}" for name in names))
        done = owner.install("--simulate-gpus", "NVIDIA T4:1", "--name", "box-1", "--service")
        assert done.returncode == 0, done.stderr
        assert f"It is the service {UNIT}, which starts with the box" in done.stdout
        yield box


async def test_a_service_stops_and_starts_around_a_training_and_never_takes_it_along(
    box: Box, platform: FakeScheduler
) -> None:
    owner = box.owner
    owner.hold("run")
    assert "tk_" not in box.unit_text()
    assert box.systemctl("is-enabled", UNIT) == "enabled"
    assert "online" in await owner.runs("start")
    launcher = owner.launcher("box-1")
    assert box.property("MainPID") == str(launcher)
    platform.direct("a1")
    await eventually(lambda: "started" in platform.facts("a1"))
    phase = AttemptFolder(owner.folder("box-1").attempts, "a1").phase()
    processes = [phase["keeper_pid"], phase["trainer_pid"]]

    # The box's admin stops the service: the training is its keeper's.
    await asyncio.to_thread(box.systemctl, "stop", UNIT)
    assert box.property("ActiveState") == "inactive"
    assert owner.launcher("box-1") == 0
    assert all(alive(pid) for pid in processes)
    await owner.starts("box-1")
    await eventually(lambda: list(platform.hellos[-1].live_attempts) == ["a1"])

    # A reload begins anew in the same process; a launcher that dies is started again.
    hellos, launcher = len(platform.hellos), owner.launcher("box-1")
    await asyncio.to_thread(box.systemctl, "reload", UNIT)
    await eventually(lambda: len(platform.hellos) > hellos)
    assert owner.launcher("box-1") == launcher
    os.kill(launcher, signal.SIGKILL)
    await eventually(lambda: owner.launcher("box-1") not in (0, launcher), what="the next launcher")
    await eventually(lambda: list(platform.hellos[-1].live_attempts) == ["a1"])
    assert all(alive(pid) for pid in processes)
    assert platform.ended("a1") is None

    # It stops after its training, and is not started again.
    await owner.runs("stop", "--after-job")
    owner.let_go("run")
    await eventually(lambda: box.property("ActiveState") == "inactive", what="the service's end")
    assert box.property("Result") == "success"
    assert platform.ended("a1") is not None
    assert "is not running" in await owner.runs("stop")
    # Longer than systemd waits before it starts a service again.
    await owner.starts("box-1")
    await owner.runs("stop")
    assert (box.property("ActiveState"), box.property("NRestarts")) == ("inactive", "0")


async def test_uninstalling_removes_the_service_too(box: Box, platform: FakeScheduler) -> None:
    owner = box.owner
    simulated = ("install", "--server", owner.server, "--simulate-gpus", "NVIDIA T4:1")
    other = ("--service", "--name", "box-1", "--state-dir", str(owner.home / "other"))
    again = await asyncio.to_thread(owner.tries, *simulated, *other)
    assert again.returncode == 1
    assert f"/etc/systemd/system/{UNIT} exists already" in again.stderr
    assert not (owner.home / "other").exists()
    await owner.starts("box-1")
    before = box.unit_text()
    assert (await asyncio.to_thread(owner.answers, "n", "uninstall"))[0] == 1
    assert box.unit_text() == before
    assert box.property("ActiveState") == "active"
    await owner.runs("uninstall", "--yes")
    assert box.unit_text() == ""
    assert box.property("LoadState") == "not-found"
    assert owner.launcher("box-1") == 0
    assert not owner.folder("box-1").root.exists()

    for options in ((), ("--no-service", "--name", "other")):
        assert "service" not in await owner.runs(*simulated, *options), "a box that simulates is somebody's own machine"
    assert box.property("LoadState") == "not-found"
    refused = await owner.is_refused(*simulated, "--name", "c", "--run-as", "no-such-user")
    assert "there is no user 'no-such-user'" in refused
