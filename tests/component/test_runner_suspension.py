"""The owner's suspension on the way to the platform: the command, the file, the agent as a process."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from protos.common.v1 import inventory_pb2
from runner_agent.config import BoxConfig
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.installed_runner import InstalledRunner

OWNER = "SUSPENSION_OWNER_BOX_OWNER"


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler().start()
    yield platform
    await platform.stop()


@pytest.fixture
def box(tmp_path: Path, platform: FakeScheduler) -> Iterator[InstalledRunner]:
    with InstalledRunner(tmp_path / "state", platform.address) as box:
        yield box


async def run(box: InstalledRunner, *arguments: str) -> str:
    done = await asyncio.to_thread(box.command, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_the_platform_is_told_at_once_and_the_training_goes_on(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    box.start_keeper()
    box.start_agent()
    await eventually(lambda: platform.hellos)
    platform.direct("a1")
    await eventually(lambda: "started" in platform.facts("a1"))
    assert "The training that runs goes on" in await run(box, "suspend", "--reason", "demo")
    await eventually(lambda: platform.suspensions == [{}, {OWNER: "demo"}], timeout_s=3)
    await run(box, "suspend", "--reason", "demo", "--for", "2h")
    shown = json.loads(await run(box, "status", "--json"))["suspensions"]
    assert [(one["owner"], one["reason"]) for one in shown] == [("box_owner", "demo")]
    assert 7100 < shown[0]["ends_in_s"] <= 7200
    assert "by you: demo · ends in" in await run(box, "status")
    seen = len(platform.records["a1/trainer"])
    await eventually(lambda: len(platform.records["a1/trainer"]) > seen)
    assert "takes trainings again" in await run(box, "resume")
    await eventually(lambda: platform.suspensions[-1] == {}, timeout_s=3)
    assert platform.suspensions == [{}, {OWNER: "demo"}, {}], "the same reason is told once, whatever its end"
    assert platform.ended("a1") is None


async def test_a_suspension_made_without_a_connection_is_in_the_next_hello_and_outlasts_the_agent(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    done = await asyncio.to_thread(box.command, "suspend")
    assert done.returncode == 0
    assert "not told yet" in done.stderr
    for hellos in (1, 2):
        box.start_agent()
        await eventually(lambda: len(platform.hellos) == hellos)  # noqa: B023
        box.kill_agent()
    told = {OWNER: "suspended on the box by its owner"}
    assert platform.suspensions == [told, told]


async def test_it_ends_by_itself_when_its_time_is_over(box: InstalledRunner, platform: FakeScheduler) -> None:
    box.start_agent()
    await eventually(lambda: platform.hellos)
    await run(box, "suspend", "--for", "2s")
    await eventually(lambda: len(platform.suspensions) == 3, what="the end of the suspension")
    assert [bool(one) for one in platform.suspensions] == [False, True, False]
    assert json.loads(await run(box, "status", "--json"))["suspensions"] == []
    assert "takes trainings again" in await run(box, "resume")
    assert "is not suspended by you" in await run(box, "resume")


async def test_a_driver_that_fails_suspends_the_runner_and_keeps_no_agent_from_its_work(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    gpu = inventory_pb2.Gpu(uuid="GPU-not-in-any-box", type="NVIDIA L4")
    box.folder.inventory.write_bytes(inventory_pb2.Inventory(gpus=[gpu]).SerializeToString())
    box.folder.save(BoxConfig(name="box", server=platform.address, gpu_uuids=(gpu.uuid,)))
    box.start_agent()
    await eventually(lambda: platform.hellos)
    assert [one.type for one in platform.hellos[0].inventory.gpus] == ["NVIDIA L4"]
    assert list(platform.suspensions[0]) == ["SUSPENSION_OWNER_HEALTH"]
    assert "the NVIDIA driver reports" in platform.suspensions[0]["SUSPENSION_OWNER_HEALTH"]
    assert await eventually(lambda: "health" in box.status()["suspensions"])


async def test_wrong_input_is_refused_in_one_sentence_and_changes_nothing(box: InstalledRunner) -> None:
    for arguments in (("--for", "2"), ("--for", "-1h"), ("--reason", "two\nlines"), ("--reason", "x" * 201)):
        done = await asyncio.to_thread(box.command, "suspend", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert not box.folder.suspension.exists()
