"""SIGSTOP and SIGCONT: what stands still for less than the window harms nothing; for longer, the training has ended."""

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.faults import TOLERANCE_MS, WINDOW_MS, FaultStack, box_on, passes, platform_with_window, together
from tests.support.keeper_under_test import alive
from tests.support.loop_thread import LoopThread
from tests.support.platform import SharedPlatform

Case = Callable[[FaultStack], Awaitable[None]]

SHORTER_S = 6.0
# Longer than the window, and longer than the 15 s after which a session is over.
LONGER_S = 18.0


@pytest.fixture(scope="module")
def steady_platform(shared_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPlatform]:
    with platform_with_window(shared_loop, tmp_path_factory.mktemp("pause") / "platform") as platform:
        yield platform


async def test_a_box_of_which_a_part_stands_still(steady_platform: SharedPlatform, tmp_path: Path) -> None:
    cases: dict[str, Case] = {
        "agent-shorter": _nothing_happens("agent", SHORTER_S),
        "keeper-shorter": _nothing_happens("keeper", SHORTER_S),
        "box-shorter": _nothing_happens("box", SHORTER_S),
        # The agent holds the session meanwhile: the keeper is renewed in time, and learns of it when it wakes up.
        "keeper-longer": _nothing_happens("keeper", LONGER_S),
        "agent-longer": _the_agent_is_away,
        "box-longer": _the_box_is_away,
    }
    async with AsyncExitStack() as boxes:
        stacks = [await boxes.enter_async_context(box_on(steady_platform, tmp_path, name)) for name in cases]
        await together({stack.runner: cases[stack.runner](stack) for stack in stacks})


def _stop(stack: FaultStack, attempt_id: str, part: str, number: int) -> None:
    if part == "box":
        stack.faulty.signal_all(number)
    else:
        stack.faulty.strike(part, attempt_id, number)


def _nothing_happens(part: str, for_s: float) -> Case:
    async def case(stack: FaultStack) -> None:
        job = await stack.trains()
        await stack.faulty.just_heard()
        _stop(stack, job.attempt_id, part, signal.SIGSTOP)
        await passes(for_s)
        _stop(stack, job.attempt_id, part, signal.SIGCONT)
        await stack.goes_on(job)
        done = await stack.finishes(job)
        assert "JobUnreachable" not in await stack.types(job.job_id)
        await stack.runs_another(done)

    return case


async def _the_agent_is_away(stack: FaultStack) -> None:
    """The keeper needs nobody to end the training in time."""
    job = await stack.trains()
    box = stack.faulty
    heard_ns = await box.just_heard()
    agent_pid = box.strike("agent", job.attempt_id, signal.SIGSTOP)
    await eventually(lambda: not alive(box.pid("trainer", job.attempt_id)), 20, "the end of the training")
    await passes(LONGER_S - WINDOW_MS / 1000)
    os.kill(agent_pid, signal.SIGCONT)
    done = await stack.ended_itself(job)
    stopped_ns = box.observed(job.attempt_id, "stopping")[0]["boottime_ns"]
    assert -1 <= (stopped_ns - heard_ns) / 1e9 - WINDOW_MS / 1000 <= 1
    await stack.charges_what_ran(done)
    await stack.runs_another(done)


async def _the_box_is_away(stack: FaultStack) -> None:
    """As with a closed lid: when the box wakes up its window is over. Time beyond the window is not charged."""
    job = await stack.trains()
    box = stack.faulty
    heard_ns = await box.just_heard()
    box.signal_all(signal.SIGSTOP)
    steps = len(box.observed(job.attempt_id, "step"))
    await passes(LONGER_S)
    box.signal_all(signal.SIGCONT)
    done = await stack.ended_itself(job)
    assert len(box.observed(job.attempt_id, "step")) <= steps + 20, "it ended as soon as it woke up"
    charged_ms = done.interval.charged_until_ms - done.interval.started_at_ms
    until_heard_ms = (heard_ns - box.observed(job.attempt_id, "started")[0]["boottime_ns"]) / 1e6
    assert until_heard_ms - TOLERANCE_MS <= charged_ms <= until_heard_ms + WINDOW_MS + TOLERANCE_MS
    await stack.runs_another(done)


@pytest.mark.slow
async def test_a_scheduler_that_stands_still(steady_platform: SharedPlatform, tmp_path: Path) -> None:
    async with box_on(steady_platform, tmp_path, "box") as stack:
        job = await stack.trains()
        await stack.faulty.just_heard()
        await _scheduler_stands_still(steady_platform, SHORTER_S)
        await stack.goes_on(job)
        await stack.finishes(job)
        assert "JobUnreachable" not in await stack.types(job.job_id)

        longer = await stack.trains()
        heard_ns = await stack.faulty.just_heard()
        await _scheduler_stands_still(steady_platform, LONGER_S)
        done = await stack.ended_itself(longer)
        stopped_ns = stack.faulty.observed(longer.attempt_id, "stopping")[0]["boottime_ns"]
        assert -1 <= (stopped_ns - heard_ns) / 1e9 - WINDOW_MS / 1000 <= 1
        await stack.charges_what_ran(done)
        await stack.runs_another(job, done)


async def _scheduler_stands_still(platform: SharedPlatform, for_s: float) -> None:
    pid = platform.pid("scheduler")
    os.kill(pid, signal.SIGSTOP)
    try:
        await passes(for_s)
    finally:
        os.kill(pid, signal.SIGCONT)
