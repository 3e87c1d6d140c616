"""A trainer that hangs, held by a real keeper."""

import signal
from pathlib import Path
from typing import Any

from runner_agent import clock
from tests.support.eventually import eventually
from tests.support.keeper_under_test import SECOND_NS, KeeperUnderTest, kill


def start(keeper: KeeperUnderTest, stall_ms: int, *, stop: bool) -> dict[str, Any]:
    now_ns = clock.boottime_ns()
    return keeper.ask(
        cmd="start",
        attempt_id="attempt-1",
        job_id="job-1",
        directory=str(keeper.directory),
        window_ms=600_000,
        deadline_boottime_ns=now_ns + 600 * SECOND_NS,
        anchor_at_ms=1_000_000,
        anchor_boottime_ns=now_ns,
        simulated=True,
        gpu_uuids=[],
        stall_ms=stall_ms,
        stop_when_stalled=stop,
    )


async def running(keeper: KeeperUnderTest, stall_ms: int, *, stop: bool) -> int:
    """Start an attempt; its trainer's pid once it makes steps."""
    await eventually(lambda: keeper.ask(cmd="status")["ready"], 30)
    assert start(keeper, stall_ms, stop=stop)["refused"] == ""
    await eventually(lambda: keeper.ask(cmd="status")["step"] > 2, 30)
    return keeper.pids()[0]


def facts(keeper: KeeperUnderTest) -> list[str]:
    return [fact["fact"] for fact in keeper.facts()]


async def test_a_training_that_hangs_is_told_and_so_is_that_it_goes_on(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path, "--interval-s", "0.05") as keeper:
        trainer_pid = await running(keeper, 1500, stop=False)
        kill(trainer_pid, signal.SIGSTOP)
        await eventually(lambda: keeper.ask(cmd="status")["stalled"], 30)
        kill(trainer_pid, signal.SIGCONT)
        await eventually(lambda: not keeper.ask(cmd="status")["stalled"], 30)
        told = [fact for fact in keeper.facts() if fact["fact"] in ("stalled", "progressed")]
        assert [fact["fact"] for fact in told[:2]] == ["stalled", "progressed"]
        assert told[0]["boottime_ns"] - told[0]["since_boottime_ns"] >= 1.5e9
        assert told[1]["step"] > told[0]["step"]


async def test_a_training_that_hangs_for_good_is_stopped_where_that_was_asked_for(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path, "--steps", "50", "--hang-at-step", "20") as keeper:
        await running(keeper, 1500, stop=True)
        await eventually(keeper.gone, 30)
        assert facts(keeper) == ["started", "stalled", "checkpoint", "ended"]
        outcome = keeper.outcome()
        assert (outcome["outcome"], outcome["reason"]) == ("KILLED", "END_REASON_STALLED")
        assert "made no step for" in outcome["message"]
        assert outcome["steps"] == 20
