"""Several runners on one box: disjoint GPUs, held by UUID; which one a command means; what `list` shows."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.fake_scheduler import FakeScheduler
from tests.support.owner import Owner


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler().start()
    yield platform
    await platform.stop()


@pytest.fixture
async def owner(tmp_path: Path, platform: FakeScheduler) -> AsyncIterator[Owner]:
    owner = Owner(tmp_path, platform.address, nvidia=True)
    yield owner
    await owner.clear()


async def installs(owner: Owner, name: str, *options: str) -> str:
    return await owner.runs("install", "--server", owner.server, "--name", name, "--no-service", *options)


async def test_two_runners_share_a_box_and_no_gpu(owner: Owner, platform: FakeScheduler) -> None:
    assert (await installs(owner, "a", "--gpus", "0,1")).count("NVIDIA L4") == 2
    box = owner.environment["TETHER_TEST_BOX"]
    for gpus, wrong in (("1,2", 1), ("0", 0), ("", 0)):
        refused = await owner.is_refused("install", "--server", owner.server, "--name", "b", "--gpus", gpus)
        assert f"the GPU {wrong} (NVIDIA L4, GPU-{box}-{wrong}) belongs to the runner a already" in refused
        assert "choose --gpus 2,3" in refused
        assert not owner.folder("b").root.exists()
    await installs(owner, "b", "--gpus", "2,3")
    await asyncio.gather(owner.starts("a"), owner.starts("b"))
    assert sorted(gpu.uuid for hello in platform.hellos for gpu in hello.inventory.gpus) == [
        f"GPU-{box}-{number}" for number in range(4)
    ]

    several = await owner.is_refused("status")
    assert "several runners are installed (a, b); choose one with --name" in several
    assert "there is no runner 'c' of yours on this box; choose one with --name: a, b" in await owner.is_refused(
        "status", "--name", "c"
    )
    rows = json.loads(await owner.runs("list", "--json"))
    assert [(row["name"], row["connected"], row["gpus"], row["gpu_uuids"]) for row in rows] == [
        (name, True, ["NVIDIA L4"] * 2, [f"GPU-{box}-{number}" for number in numbers])
        for name, numbers in (("a", (0, 1)), ("b", (2, 3)))
    ]
    assert {row["server"] for row in rows} == {platform.address}
    shown = await owner.runs("list")
    assert shown.count("2 × NVIDIA L4") == 2
    await owner.runs("stop", "--name", "b")
    assert "not running" in (await owner.runs("list")).splitlines()[2]


async def test_what_was_disjoint_at_the_installation_is_looked_at_again_at_every_start(
    owner: Owner, platform: FakeScheduler
) -> None:
    await installs(owner, "a", "--gpus", "0")
    await installs(owner, "b", "--gpus", "1")
    stolen = owner.folder("a").load().gpu_uuids
    own = owner.folder("b").load()
    owner.folder("b").save(own.model_copy(update={"gpu_uuids": stolen}))
    refused = await owner.is_refused("start", "--name", "b")
    assert f"the GPU {stolen[0]} belongs to the runner a already; uninstall one of the two" in refused

    # A runner that this user cannot see, of another user for example: its claim is seen.
    owner.folder("b").save(own)
    hidden = owner.folder("a").root.rename(owner.home / "elsewhere")
    await owner.runs("start", "--state-dir", str(hidden))
    owner.folder("b").save(own.model_copy(update={"gpu_uuids": stolen}))
    refused = await owner.is_refused("start", "--name", "b")
    assert f"the GPU {stolen[0]} belongs to the runner in {hidden} (pid " in refused
    assert "cannot start" in await owner.runs("logs", "--name", "b")
    owner.folder("b").save(own)
    number = stolen[0][-1]
    refused = await owner.is_refused("install", "--server", owner.server, "--name", "c", "--gpus", number)
    assert f"belongs to the runner in {hidden}" in refused
    await owner.runs("stop", "--state-dir", str(hidden))
    assert "NVIDIA L4" in await installs(owner, "c", "--gpus", number)


async def test_names_that_cannot_name_a_folder_and_a_service_are_refused(owner: Owner) -> None:
    for name in ("", "../x", "a b", "-a", "x" * 65, "a/b"):
        refused = await owner.is_refused("install", "--server", owner.server, "--name", name)
        assert "is not a name" in refused
    assert not (owner.home / "tether-runner").exists()
    assert "--run-as is for a service" in await owner.is_refused(
        "install", "--server", owner.server, "--run-as", "nobody", "--no-service"
    )
    assert "this box has the GPUs 0 to 3" in await owner.is_refused("install", "--server", "h:1", "--gpus", "4")
    assert "no NVIDIA GPU" in await owner.is_refused("install", "--server", "h:1", TETHER_TEST_GPUS="0")
