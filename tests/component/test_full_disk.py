"""A disk that is really full: the training goes on, and its end is never lost."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent import keeper_client
from runner_agent.attempts import AttemptFolder
from runner_agent.keeper_files import RESERVE
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.installed_runner import InstalledRunner, kill
from tests.support.keeper_under_test import KeeperUnderTest
from tests.support.small_disk import SmallDisk

pytestmark = pytest.mark.mounts


@pytest.fixture
def disk(tmp_path: Path) -> AsyncIterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler().start()
    yield platform
    await platform.stop()


@pytest.fixture
def box(disk: SmallDisk, platform: FakeScheduler) -> AsyncIterator[InstalledRunner]:
    with InstalledRunner(disk.path / "state", platform.address) as box:
        yield box


async def running(box: InstalledRunner, platform: FakeScheduler) -> None:
    box.start_keeper()
    box.start_agent()
    await eventually(lambda: platform.hellos, what="Hello")
    platform.direct("a1")
    await eventually(lambda: box.held()[0]["step"] > 2, what="a running training")


def take_reserves(attempt: AttemptFolder) -> None:
    """The blocks for the end, and those for facts, but for the one that the facts lie in."""
    (attempt.path / RESERVE).unlink()
    (attempt.path / "facts.jsonl").write_bytes((attempt.path / "facts.jsonl").read_bytes())


async def goes_on(box: InstalledRunner) -> None:
    step = box.held()[0]["step"]
    await eventually(lambda: box.held()[0]["step"] > step + 5, what="further steps")


async def test_a_keeper_writes_the_end_of_a_training_on_a_full_disk(disk: SmallDisk) -> None:
    with KeeperUnderTest(disk.path) as keeper:
        await eventually(lambda: keeper.ask(cmd="status")["ready"])
        keeper.start()
        await eventually(lambda: keeper.ask(cmd="status")["step"] > 2)
        assert (keeper.directory / RESERVE).stat().st_blocks > 0
        disk.fill()
        stamp = json.loads((keeper.directory / "alive").read_text())
        step = keeper.ask(cmd="status")["step"]
        await eventually(lambda: keeper.ask(cmd="status")["step"] > step + 5)
        await eventually(
            lambda: json.loads((keeper.directory / "alive").read_text())["boottime_ns"] > stamp["boottime_ns"],
            what="a stamp on the full disk",
        )
        keeper.ask(cmd="stop", reason="END_REASON_QUOTA_EXHAUSTED", message="no minutes left")
        await eventually(keeper.gone)
        assert [fact["fact"] for fact in keeper.facts()] == ["started", "checkpoint", "ended"]
        assert keeper.outcome()["reason"] == "END_REASON_QUOTA_EXHAUSTED"
        assert keeper.phase() == "ended"
        assert not (keeper.directory / RESERVE).exists()


async def test_an_end_that_has_no_room_at_all_is_told_by_the_keeper_and_written_when_there_is(
    disk: SmallDisk, box: InstalledRunner, platform: FakeScheduler
) -> None:
    await running(box, platform)
    attempt = box.attempt("a1")
    # Whoever was quicker has taken what was set aside.
    take_reserves(attempt)
    disk.fill()
    await goes_on(box)
    platform.direct("a1", stop_reason=training_pb2.END_REASON_QUOTA_EXHAUSTED)
    path = next(box.sockets.glob("*.sock"))
    await eventually(
        lambda: (keeper_client.ask(path, cmd="status") or {})["unwritten"]["facts"][-1]["fact"] == "ended",
        what="the end in the keeper's status",
    )
    assert not attempt.has_ended()
    await eventually(lambda: platform.facts("a1") == ["started", "checkpointed"], what="the fact before it")
    disk.free()
    ended = await eventually(lambda: platform.ended("a1"), what="the end at the platform")
    assert (ended.outcome, ended.reason) == (session_pb2.OUTCOME_KILLED, training_pb2.END_REASON_QUOTA_EXHAUSTED)
    await eventually(lambda: attempt.has_ended(), what="the end on the disk")
    await eventually(lambda: box.status()["attempt"] is None)
    assert [fact.content["fact"] for fact in attempt.facts()] == ["started", "checkpoint", "ended"]
    assert platform.facts("a1") == ["started", "checkpointed", "ended"]


async def test_an_end_that_a_keeper_took_with_it_is_written_by_the_agent_as_it_was_told(
    disk: SmallDisk, box: InstalledRunner, platform: FakeScheduler
) -> None:
    await running(box, platform)
    attempt = box.attempt("a1")
    take_reserves(attempt)
    disk.fill()
    keeper_pid = box.held()[0]["keeper_pid"]
    platform.direct("a1", stop_reason=training_pb2.END_REASON_QUOTA_EXHAUSTED)
    path = next(box.sockets.glob("*.sock"))
    await eventually(lambda: (keeper_client.ask(path, cmd="status") or {})["unwritten"]["facts"][-1]["fact"] == "ended")
    kill(keeper_pid)
    ended = await eventually(lambda: platform.ended("a1"), what="the end at the platform, the disk being full")
    assert ended.reason == training_pb2.END_REASON_QUOTA_EXHAUSTED
    disk.free()
    await eventually(lambda: attempt.has_ended())
    assert attempt.facts()[-1].content["reason"] == "END_REASON_QUOTA_EXHAUSTED"
    await eventually(lambda: box.status()["attempt"] is None)


@pytest.mark.parametrize("reserved", [True, False])
async def test_the_end_of_a_training_whose_keeper_is_killed_is_told_though_the_disk_is_full(
    disk: SmallDisk, box: InstalledRunner, platform: FakeScheduler, reserved: bool
) -> None:
    await running(box, platform)
    attempt = box.attempt("a1")
    if not reserved:
        take_reserves(attempt)
    disk.fill()
    await goes_on(box)
    kill(box.held()[0]["keeper_pid"])
    ended = await eventually(lambda: platform.ended("a1"))
    assert ended.reason == training_pb2.END_REASON_INFRASTRUCTURE
    assert attempt.has_ended() is reserved
    disk.free()
    await eventually(lambda: attempt.has_ended())
    await eventually(lambda: box.status()["attempt"] is None)
    assert platform.facts("a1") == ["started", "ended"]


async def test_what_the_disk_took_before_and_after_it_was_full_arrives_once_and_in_order(
    disk: SmallDisk, box: InstalledRunner, platform: FakeScheduler
) -> None:
    await running(box, platform)
    disk.fill()
    await goes_on(box)
    disk.free()
    seen = len(platform.records["a1/trainer"])
    await eventually(lambda: len(platform.records["a1/trainer"]) > seen + 5, what="records after the full disk")
    platform.direct("a1", stop_reason=training_pb2.END_REASON_STOPPED_BY_PERSON)
    await eventually(lambda: platform.ended("a1"))
    await eventually(lambda: box.attempt("a1").shipped())
    assert platform.holes == 0
    points = [record.points.step for record in platform.records["a1/trainer"].values()]
    assert points == sorted(set(points))


async def test_a_training_does_not_begin_where_there_is_no_room_for_its_end(
    disk: SmallDisk, box: InstalledRunner, platform: FakeScheduler
) -> None:
    box.start_keeper()
    box.start_agent()
    await eventually(lambda: platform.hellos, what="Hello")
    disk.fill()
    platform.direct("a1")
    ended = await eventually(lambda: platform.ended("a1"))
    assert (ended.outcome, ended.reason) == (session_pb2.OUTCOME_FAILED, training_pb2.END_REASON_INFRASTRUCTURE)
    assert "No space left on device" in ended.message
    assert not ended.HasField("started_at")
