"""A process of an ended training that outlives its SIGKILL, as one does that is stuck in a driver."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runner_agent import runtime, sweep
from runner_agent.bootstrap import build_agent
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.installed_runner import InstalledRunner, kill
from tests.support.keeper_under_test import alive


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler().start()
    yield platform
    await platform.stop()


async def test_a_process_that_does_not_die_suspends_the_runner_by_name_until_it_is_gone(
    tmp_path: Path, platform: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(sweep, "kill", killed.extend)
    monkeypatch.setattr(runtime, "SWEEP_PATIENCE", 5)
    monkeypatch.setattr(runtime, "SWEEP_SLOW_INTERVAL_S", 0.05)
    with InstalledRunner(tmp_path / "state", platform.address) as box:
        box.start_keeper("--with-child")
        agent = asyncio.create_task(build_agent(box.folder).run())
        try:
            await eventually(lambda: platform.hellos, what="Hello")
            platform.direct("a1")
            await eventually(lambda: "started" in platform.facts("a1"))
            child = box.trainer_pids("a1")[1]
            kill(box.held()[0]["keeper_pid"])
            told = await eventually(lambda: platform.suspensions[-1].get("SUSPENSION_OWNER_HEALTH"))
            assert f"process {child} (sleep, state S) of the ended training a1 cannot be killed" in told
            assert platform.ended("a1") is None, "the runner is not given away while it lives"
            tries = len(killed)
            await eventually(lambda: len(killed) > tries, what="another try")
            kill(child)
            await eventually(lambda: not alive(child))
            await eventually(lambda: platform.suspensions[-1] == {}, what="recovery")
            await eventually(lambda: platform.ended("a1"))
        finally:
            agent.cancel()
            await asyncio.wait([agent])
