"""kill -9 of each process, at each phase of a training: one start at most, one end, the truth about both."""

import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from protos.scheduler.v1 import job_pb2
from protos.training.v1.training_pb2 import EndReason
from tests.support.eventually import eventually
from tests.support.faults import LONG_LEASE_MS, FaultStack, box_on, platform_with_window, together
from tests.support.keeper_under_test import alive
from tests.support.loop_thread import LoopThread
from tests.support.platform import SharedPlatform

PHASES = ("assigned", "starting", "running", "ending")
# A keeper that is killed says nothing more: what it stamped last counts, and it stamps every 5 s.
STAMP_INTERVAL_MS = 5_000

FINISHED, FAILED, KILLED = job_pb2.JOB_STATE_FINISHED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_KILLED


@pytest.fixture(scope="module")
def strong_platform(shared_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPlatform]:
    folder = tmp_path_factory.mktemp("kill") / "platform"
    with platform_with_window(shared_loop, folder, lease_ms=LONG_LEASE_MS) as platform:
        yield platform


@pytest.mark.parametrize("victim", ["agent", "launcher", "keeper", "trainer", "scheduler"])
async def test_a_training_in_any_phase_has_one_true_end_after_the_kill_of(
    victim: str, strong_platform: SharedPlatform, tmp_path: Path
) -> None:
    async with AsyncExitStack() as open_boxes:
        stacks = {}
        for phase in PHASES:
            box = box_on(strong_platform, tmp_path, f"{victim}-{phase}")
            stacks[phase] = await open_boxes.enter_async_context(box)
        if victim == "scheduler":
            jobs = {phase: await _in_phase(stack, phase) for phase, stack in stacks.items()}
            restarts = strong_platform.restarts("scheduler")
            strong_platform.kill("scheduler")
            await eventually(lambda: strong_platform.restarts("scheduler") > restarts, 20, "its restart")
            await together({phase: _goes_on(stacks[phase], jobs[phase], phase) for phase in PHASES})
        else:
            await together({phase: _struck(stack, victim, phase) for phase, stack in stacks.items()})


async def _struck(stack: FaultStack, victim: str, phase: str) -> None:
    job = await _in_phase(stack, phase)
    box = stack.faulty
    pid = box.strike(victim, job.attempt_id, signal.SIGKILL)
    await eventually(lambda: not alive(pid), 10, f"the death of the {victim}")
    if victim == "launcher":
        # What a service manager does.
        box.start()
    if victim in ("agent", "launcher"):
        await eventually(lambda: box.pid("agent") not in (0, pid), 20, "another agent")
        assert alive(box.pid("trainer", job.attempt_id)), "the training goes on meanwhile"
        await eventually(lambda: box.status().get("connected"), 20, "its session")
        await _goes_on(stack, job, phase)
    else:
        await _is_lost(stack, job, victim, phase)


async def _in_phase(stack: FaultStack, phase: str) -> job_pb2.Job:
    box = stack.faulty
    if phase == "assigned":
        box.hold("ready")
    await eventually(lambda: box.status().get("connected"), 30, f"{box.name} connected")
    if phase != "assigned":
        await eventually(box.ready, 30, f"{box.name} ready")
    return await stack.comes_to(phase)


async def _goes_on(stack: FaultStack, job: job_pb2.Job, phase: str) -> None:
    """The training was not touched: it comes to the end that it was meant to have."""
    stack.faulty.let_go()
    done = await stack.reaches_one_end(job)
    if phase == "ending":
        assert (done.state, done.reason) == (KILLED, EndReason.END_REASON_STOPPED_BY_PERSON), done.message
    else:
        assert done.state == FINISHED, done.message
    assert "JobUnreachable" not in await stack.types(job.job_id)
    await stack.charges_what_ran(done)
    await stack.runs_another(done)


async def _is_lost(stack: FaultStack, job: job_pb2.Job, victim: str, phase: str) -> None:
    """Keeper and trainer die together; what the box knows of the end is told."""
    box = stack.faulty
    await eventually(lambda: not alive(box.pid("trainer", job.attempt_id)), 10, "the end of the trainer")
    done = await stack.reaches_one_end(job)
    if phase == "ending":
        assert (done.state, done.reason) == (KILLED, EndReason.END_REASON_STOPPED_BY_PERSON), done.message
    else:
        assert (done.state, done.reason) == (FAILED, EndReason.END_REASON_INFRASTRUCTURE), done.message
    started = phase in ("running", "ending")
    assert (await stack.types(job.job_id)).count("JobStarted") == started
    await stack.charges_what_ran(done, less_by_at_most_ms=STAMP_INTERVAL_MS if victim == "keeper" else 0)
    await stack.runs_another(done)
