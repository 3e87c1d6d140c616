"""`tether-runner restart`: launcher and agent begin anew, the training does not notice."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runner_agent.locks import Lock
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.installed_runner import InstalledRunner
from tests.support.keeper_under_test import alive


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler().start()
    yield platform
    await platform.stop()


@pytest.fixture
async def box(tmp_path: Path, platform: FakeScheduler) -> AsyncIterator[InstalledRunner]:
    with InstalledRunner(tmp_path / "state", platform.address) as box:
        yield box
        launcher = Lock(box.folder.lock).holder()
        if launcher:
            os.kill(launcher, signal.SIGTERM)
            await eventually(lambda: Lock(box.folder.lock).holder() == 0, timeout_s=20)


async def run(box: InstalledRunner, *arguments: str) -> str:
    done = await asyncio.to_thread(box.command, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_training_runs_through_restarts_without_hole_or_double(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    keeper = box.start_keeper()
    assert "is started" in await run(box, "restart")
    platform.direct("a1")
    await eventually(lambda: "started" in platform.facts("a1"))
    trainer_pid = box.trainer_pids("a1")[0]
    launcher_pid = Lock(box.folder.lock).holder()
    for restarts in (1, 2):
        agent_pid = Lock(box.folder.agent_lock).holder()
        output = await run(box, "restart")
        assert "is restarted" in output
        assert "goes on (attempt a1)" in output
        assert len(platform.hellos) == 1 + restarts
        assert list(platform.hellos[-1].live_attempts) == ["a1"]
        assert Lock(box.folder.lock).holder() == launcher_pid, "a service manager would have noticed"
        assert Lock(box.folder.agent_lock).holder() not in (0, agent_pid)
        assert not alive(agent_pid)
        seen = len(platform.records["a1/trainer"])
        await eventually(lambda: len(platform.records["a1/trainer"]) > seen)  # noqa: B023
    assert keeper.poll() is None
    assert box.trainer_pids("a1")[0] == trainer_pid
    assert alive(trainer_pid)
    platform.direct()
    await eventually(lambda: platform.ended("a1"))
    assert platform.facts("a1") == ["started", "checkpointed", "ended"]

    def complete() -> bool:
        return list(platform.records["a1/trainer"]) == list(range(1, box.lines("a1", "trainer") + 1))

    await eventually(complete)
    assert platform.holes == 0


async def test_without_a_platform_a_restart_says_so_and_the_runner_goes_on_trying(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    await run(box, "restart")
    await platform.stop()
    done = await asyncio.to_thread(box.command, "restart")
    assert done.returncode == 1
    assert "is restarted" in done.stdout
    assert "cannot reach the platform" in done.stderr
    await platform.start()
    await eventually(lambda: len(platform.hellos) == 2, timeout_s=30)
