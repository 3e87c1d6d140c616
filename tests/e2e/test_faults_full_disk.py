"""A full disk on the box: the training finishes, its end is told, and there is no other until there is room."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from protos.events.v1.runner_pb2 import RunnerStatus, SuspensionOwner
from protos.scheduler.v1 import job_pb2
from tests.support.eventually import eventually
from tests.support.faults import DATASET, box_on, platform_with_window
from tests.support.loop_thread import LoopThread
from tests.support.platform import SharedPlatform
from tests.support.small_disk import SmallDisk

# A box with less than 2 GiB free stays suspended.
SIZE_MIB = 2_300
# What had been set aside for the end of the training is free after it.
AFTER_THE_END_BYTES = 4 << 20


@pytest.fixture
def roomy_platform(shared_loop: LoopThread, tmp_path: Path) -> Iterator[SharedPlatform]:
    with platform_with_window(shared_loop, tmp_path / "platform") as platform:
        yield platform


@pytest.mark.mounts
async def test_a_full_disk_costs_records_but_not_the_training(roomy_platform: SharedPlatform, tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "full" / "state", SIZE_MIB) as disk:
        async with box_on(roomy_platform, tmp_path, "full") as stack:
            job = await stack.trains()
            await asyncio.to_thread(disk.fill)

            async def suspended() -> bool:
                return bool((await stack.runner_now()).suspensions)

            await eventually(suspended, 30, "a suspension")
            found = (await stack.runner_now()).suspensions
            assert [one.owner for one in found] == [SuspensionOwner.SUSPENSION_OWNER_HEALTH]
            assert "nearly full" in found[0].reason
            await stack.goes_on(job)
            stack.faulty.let_go()
            done = await stack.over(job.job_id, 30)
            assert done.state == job_pb2.JOB_STATE_FINISHED, done.message
            await stack.charges_what_ran(done)

            async def free_but_suspended() -> bool:
                return (await stack.runner_now()).status == RunnerStatus.RUNNER_STATUS_SUSPENDED

            await eventually(free_but_suspended, 30, "the runner suspended")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stack.submit(dataset_id=DATASET)
            assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert "SUSPENDED" in (refused.value.details() or "")
            assert disk.free_bytes() < AFTER_THE_END_BYTES, "all of that happened on a full disk"

            disk.free()
            await eventually(stack.online, 30, "the runner online again")
            steps = len(stack.faulty.observed(job.attempt_id, "step"))

            async def accounted_for() -> bool:
                texts = [line.text for line in await stack.lines(job.job_id)]
                points = (await stack.series(job.job_id, "train/loss")).steps
                told = any("dropped" in text and "disk was full" in text for text in texts)
                return told or (len(points) == steps and len(texts) == steps)

            # What was delivered makes room again, even on a full disk: it may be that nothing is lost.
            await eventually(accounted_for, 30, "every record, or a line about what was dropped")
            series = await stack.series(job.job_id, "train/loss")
            assert list(series.steps) == sorted(set(series.steps)), "what there was room for arrived once, in order"
            assert list(series.values) == [1 / step for step in series.steps]
            await stack.runs_another(done)
