"""The control plane goes: politely for a moment, or altogether for longer than the window."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.scheduler.v1 import job_pb2
from runner_agent import files
from tests.support.eventually import eventually
from tests.support.faults import LONG_LEASE_MS, WINDOW_MS, FaultStack, box_on, passes, platform_with_window, together
from tests.support.loop_thread import LoopThread
from tests.support.platform import SharedPlatform

# In the order in which they go; they come back in the opposite one.
ALL = ("scheduler", "metrics", "quota", "eventlog", "nats", "postgres")
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def mortal_platform(shared_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPlatform]:
    folder = tmp_path_factory.mktemp("outage") / "platform"
    with platform_with_window(shared_loop, folder, lease_ms=LONG_LEASE_MS) as platform:
        yield platform


async def test_a_scheduler_that_is_told_to_stop_sends_its_boxes_to_its_successor(
    mortal_platform: SharedPlatform, tmp_path: Path
) -> None:
    async with (
        box_on(mortal_platform, tmp_path, "training") as stack,
        box_on(mortal_platform, tmp_path, "idle") as idle,
    ):
        job = await stack.trains()
        await eventually(idle.online, 30, "the idle box online")
        told: list[int] = []
        async with grpc.aio.insecure_channel(mortal_platform.endpoints["scheduler"]) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
            told.append((await watch.read()).status)
            restarts = mortal_platform.restarts("scheduler")
            os.kill(mortal_platform.pid("scheduler"), signal.SIGTERM)
            told.append((await watch.read()).status)
            watch.cancel()
        assert told == [health_pb2.HealthCheckResponse.SERVING, NOT_SERVING]
        await eventually(lambda: mortal_platform.restarts("scheduler") > restarts, 20, "the successor")

        for one in (stack, idle):
            log = one.faulty.folder.agent_log
            await eventually(partial(_connected_again, log), 30, "a new session")
            reasons = [line["reason"] for line in _log(log) if line["event"] == "not connected"]
            assert "another one takes over" in reasons[0], reasons
            assert "RunnerDisconnected" not in await one.runner_types()
        await stack.goes_on(job)
        await stack.finishes(job)
        assert "JobUnreachable" not in await stack.types(job.job_id)


async def test_what_happened_while_the_control_plane_was_away_for_longer_than_the_window_is_told_truthfully(
    mortal_platform: SharedPlatform, tmp_path: Path
) -> None:
    async with box_on(mortal_platform, tmp_path, "cut-off") as stack, box_on(mortal_platform, tmp_path, "done") as done:
        job, short = await stack.trains(), await done.trains()
        heard_ns = await stack.faulty.just_heard()
        for name in ALL:
            await mortal_platform.stop(name)
        done.faulty.let_go()
        await eventually(lambda: done.faulty.observed(short.attempt_id, "ended"), 10, "the end of the one")
        ended = WINDOW_MS / 1000 + 5
        await eventually(lambda: stack.faulty.observed(job.attempt_id, "ended"), ended, "the end of the other")
        stopped_ns = stack.faulty.observed(job.attempt_id, "stopping")[0]["boottime_ns"]
        # It may have been heard once more before its scheduler was gone.
        assert -1 <= (stopped_ns - heard_ns) / 1e9 - WINDOW_MS / 1000 <= 6
        await passes(3)
        for name in reversed(ALL):
            await mortal_platform.start(name)
        await together({"cut-off": _ended_itself(stack, job), "done": _has_finished(done, short)})
        verified = await stack.verified()
        assert verified.equal, verified.differences


async def _ended_itself(stack: FaultStack, job: job_pb2.Job) -> None:
    ended = await stack.ended_itself(job)
    await stack.charges_what_ran(ended)
    await stack.has_everything(ended)
    await stack.runs_another(ended)


async def _has_finished(stack: FaultStack, job: job_pb2.Job) -> None:
    """A training that finishes while it is cut off has finished."""
    ended = await stack.finishes(job)
    await stack.has_everything(ended)
    await stack.runs_another(ended)


def _log(path: Path) -> list[dict[str, str]]:
    return [line for line in files.read_json_lines(path) if line]


def _connected_again(path: Path) -> bool:
    return sum(line["event"] == "connected" for line in _log(path)) == 2
