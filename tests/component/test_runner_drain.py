"""`tether-runner stop` and `stop --after-job`: what becomes of the training, and of what is to be told."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent import suspension
from runner_agent.attempts import AttemptFolder
from runner_agent.locks import Lock
from runner_agent.suspension import DRAINING
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.owner import Owner

OWNER = "SUSPENSION_OWNER_BOX_OWNER"


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler().start()
    yield platform
    await platform.stop()


@pytest.fixture
async def owner(tmp_path: Path, platform: FakeScheduler) -> AsyncIterator[Owner]:
    owner = Owner(tmp_path, platform.address)
    assert owner.install("--simulate-gpus", "NVIDIA T4:1").returncode == 0
    yield owner
    await owner.clear()


async def trains(owner: Owner, platform: FakeScheduler) -> None:
    owner.hold("run")
    await owner.starts()
    platform.direct("a1")
    await eventually(lambda: "started" in platform.facts("a1"))


async def stopped(owner: Owner) -> None:
    await eventually(lambda: owner.launcher() == 0, what="the launcher's end")


async def test_a_runner_stops_after_its_training_through_the_death_of_its_agent_and_its_launcher(
    owner: Owner, platform: FakeScheduler
) -> None:
    await trains(owner, platform)
    said = await owner.runs("stop", "--after-job")
    assert "takes no new training and stops after the one that it has. The job job-of-a1 runs here" in said
    assert platform.suspensions[-1] == {OWNER: DRAINING}
    assert "stops after this training" in await owner.runs("status")
    assert "stops after it" in await owner.runs("list")

    hellos = len(platform.hellos)
    os.kill(Lock(owner.folder().agent_lock).holder(), signal.SIGKILL)
    await eventually(lambda: len(platform.hellos) > hellos, what="the next agent")
    assert platform.suspensions[-1] == {OWNER: DRAINING}
    await owner.runs("restart")
    assert (await owner.status())["stops_after_training"]
    assert platform.ended("a1") is None

    platform.withhold_reports = True
    owner.let_go("run")
    await eventually(lambda: AttemptFolder(owner.folder().attempts, "a1").has_ended())
    await eventually(lambda: owner.agent_says().get("attempt") is None and owner.agent_says().get("unreported"))
    assert owner.launcher(), "it has something to tell still"
    platform.withhold_reports = False
    await platform.stop()
    await platform.start()
    await stopped(owner)
    ended = platform.ended("a1")
    assert ended is not None
    assert ended.outcome == session_pb2.OUTCOME_FINISHED
    folder = AttemptFolder(owner.folder().attempts, "a1")
    assert folder.told()
    assert folder.shipped()
    written = (folder.spool / "trainer.jsonl").read_bytes().count(b"\n") if folder.spool.exists() else 0
    assert len(platform.records["a1/trainer"]) >= max(written, 10)
    assert "nothing is left to train" in await owner.runs("logs")
    # The next start is an ordinary one.
    assert suspension.read(owner.folder().suspension) == suspension.Kept()
    platform.direct()
    assert "online" in await owner.runs("start")
    assert platform.suspensions[-1] == {}


@pytest.mark.parametrize("verb", ["start", "resume"])
async def test_the_wish_is_taken_back(owner: Owner, platform: FakeScheduler, verb: str) -> None:
    await trains(owner, platform)
    await owner.runs("suspend", "--reason", "demo")
    await owner.runs("stop", "--after-job")
    assert "not stop after its training" in await owner.runs(verb)
    left = {OWNER: "demo"} if verb == "start" else {}
    assert platform.suspensions[-1] == left
    owner.let_go("run")
    await eventually(lambda: platform.ended("a1"))
    await eventually(lambda: owner.agent_says().get("attempt") is None)
    status = await owner.status()
    assert (status["running"], status["stops_after_training"], status["training"]) == (True, False, None)


async def test_without_a_training_it_stops_at_once_with_and_without_a_connection(
    owner: Owner, platform: FakeScheduler
) -> None:
    await owner.starts()
    assert "is stopped" in await owner.runs("stop", "--after-job")
    assert owner.launcher() == 0
    await owner.starts()
    await platform.stop()
    await eventually(lambda: not owner.agent_says().get("connected"))
    assert "is stopped" in await owner.runs("stop", "--after-job")
    assert "is not running" in await owner.runs("stop", "--after-job")
    assert suspension.read(owner.folder().suspension) == suspension.Kept()


async def test_a_training_that_is_left_alone_is_not_stopped_later_by_nobody(
    owner: Owner, platform: FakeScheduler
) -> None:
    await trains(owner, platform)
    os.kill(owner.launcher(), signal.SIGKILL)
    await stopped(owner)
    assert "is not running" in await owner.is_refused("stop", "--after-job")
    assert "its training goes on" in await owner.runs("status")
    assert "goes on" in await owner.runs("list")
    assert "is stopped" in await owner.runs("stop", "--yes")
    assert AttemptFolder(owner.folder().attempts, "a1").has_ended()


async def test_stop_shows_the_job_and_asks_and_a_no_changes_nothing(owner: Owner, platform: FakeScheduler) -> None:
    await trains(owner, platform)
    code, said = await asyncio.to_thread(owner.answers, "n", "stop")
    assert code == 1
    assert "The job job-of-a1 runs here (attempt a1, step " in said
    assert "saves a checkpoint, the job ends" in said
    assert "nothing was changed" in said
    assert owner.launcher()
    assert platform.ended("a1") is None
    assert "--yes" in await owner.is_refused("stop")
    code, said = await asyncio.to_thread(owner.answers, "y", "stop")
    assert (code, "is stopped" in said) == (0, True)
    ended = platform.ended("a1")
    assert ended is not None
    assert ended.reason == training_pb2.END_REASON_STOPPED_BY_PERSON
    assert "checkpointed" in platform.facts("a1")


async def test_a_training_that_is_about_to_start_is_asked_about_and_told_to_have_ended(
    owner: Owner, platform: FakeScheduler
) -> None:
    owner.hold("ready")
    owner.hold("run")
    await owner.starts()
    platform.direct("a1")
    await eventually(lambda: (owner.agent_says().get("attempt") or {}).get("attempt_id") == "a1")
    assert "--yes" in await owner.is_refused("stop")
    stopping = asyncio.create_task(owner.runs("stop", "--yes"))
    owner.let_go("ready")
    assert "is stopped" in await stopping
    ended = platform.ended("a1")
    assert ended is not None
    assert ended.reason == training_pb2.END_REASON_STOPPED_BY_PERSON
