"""The keeper as a process, around a stand-in for the trainer."""

import json
import signal
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.keeper_under_test import KeeperUnderTest, alive, kill


async def running(keeper: KeeperUnderTest, deadline_in_s: float = 600.0) -> None:
    await eventually(lambda: keeper.ask(cmd="status")["ready"], what="a warm trainer")
    assert keeper.start(deadline_in_s)["refused"] == ""
    await eventually(lambda: keeper.ask(cmd="status")["step"] > 2, what="a running training")


async def test_a_training_that_finishes_is_told_with_fsynced_outcome(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path, "--steps", "5", "--with-child") as keeper:
        await eventually(lambda: keeper.ask(cmd="status")["ready"])
        keeper.start()
        await eventually(keeper.gone)
        assert [fact["fact"] for fact in keeper.facts()] == ["started", "checkpoint", "ended"]
        assert keeper.outcome()["outcome"] == "FINISHED"
        assert keeper.outcome()["steps"] == 5
        assert keeper.phase() == "ended"
        assert not keeper.path.exists()
        log = [json.loads(line) for line in (keeper.directory / "spool" / "log.jsonl").read_text().splitlines()]
        assert log[0]["log_line"] == {"text": "hello from the trainer", "error": False}


async def test_a_keeper_stays_below_20_megabytes(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path) as keeper:
        await running(keeper)
        assert keeper.rss_kib() < 20_000


async def test_an_attempt_is_released_while_its_trainer_still_loads_and_only_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with KeeperUnderTest(tmp_path, "--ready-after-file", str(gate)) as keeper:
        await eventually(lambda: keeper.ask(cmd="status"))
        assert keeper.start()["phase"] == "starting"
        assert "holds attempt-1" in keeper.start()["refused"]
        assert not (keeper.directory / "pids.json").exists()
        gate.touch()
        await eventually(lambda: keeper.ask(cmd="status")["phase"] == "running")
        with KeeperUnderTest(tmp_path) as other:
            await eventually(lambda: other.ask(cmd="status")["ready"])
            assert "started before" in other.start()["refused"]
            await eventually(lambda: other.process.poll() is not None)
        assert alive(keeper.pids()[0])


async def test_the_deadline_ends_the_training_and_a_renewal_moves_it(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path, "--with-child") as keeper:
        await running(keeper, deadline_in_s=600)
        renewed = keeper.ask(cmd="status")["deadline_boottime_ns"] + 1
        assert (
            keeper.ask(cmd="renew", deadline_boottime_ns=renewed, anchor_at_ms=1, anchor_boottime_ns=1)["phase"]
            == "running"
        )
    with KeeperUnderTest(tmp_path / "second", "--with-child") as keeper:
        await eventually(lambda: keeper.ask(cmd="status")["ready"])
        keeper.start(deadline_in_s=0.3)
        await eventually(keeper.gone)
        outcome = keeper.outcome()
        assert (outcome["outcome"], outcome["reason"]) == ("KILLED", "END_REASON_CONNECTION_LOST")
        started_ns, stop_ns = outcome["started_boottime_ns"], outcome["stop_began_boottime_ns"]
        assert 0.2e9 < stop_ns - started_ns < 3e9
        assert [fact["fact"] for fact in keeper.facts()] == ["started", "checkpoint", "ended"]


async def test_a_trainer_that_ignores_the_stop_is_killed_after_the_grace_with_its_children(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path, "--ignore-term", "--with-child") as keeper:
        await running(keeper)
        keeper.ask(cmd="stop", reason="END_REASON_QUOTA_EXHAUSTED", message="no minutes left", grace_ms=300)
        assert keeper.phase() == "stopping"
        keeper.ask(cmd="stop", reason="END_REASON_STOPPED_BY_PERSON", message="later", grace_ms=600_000)
        await eventually(keeper.gone)
        outcome = keeper.outcome()
        assert (outcome["outcome"], outcome["reason"]) == ("KILLED", "END_REASON_QUOTA_EXHAUSTED")
        assert outcome["message"] == "no minutes left"
        assert outcome["boottime_ns"] - outcome["stop_began_boottime_ns"] >= 0.3e9


async def test_a_killed_keeper_takes_its_trainer_with_it(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path) as keeper:
        await running(keeper)
        trainer_pid = keeper.pids()[0]
        kill(keeper.process.pid, signal.SIGKILL)
        await eventually(lambda: not alive(trainer_pid))
        assert keeper.phase() == "running"
        assert not (keeper.directory / "outcome.json").exists()


async def test_a_trainer_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path, "--die-at-step", "3", "--with-child") as keeper:
        await eventually(lambda: keeper.ask(cmd="status")["ready"])
        keeper.start()
        await eventually(keeper.gone)
        outcome = keeper.outcome()
        assert (outcome["outcome"], outcome["reason"]) == ("FAILED", "END_REASON_INFRASTRUCTURE")
        assert "exited with code 7" in outcome["message"]
        assert "CUDA error" in outcome["message"]
        assert outcome["steps"] == 3


async def test_a_warm_pair_ends_with_its_launcher_and_a_held_attempt_does_not(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path) as keeper:
        await running(keeper)
        assert keeper.process.stdin is not None
        keeper.process.stdin.close()
        step = keeper.ask(cmd="status")["step"]
        await eventually(lambda: keeper.ask(cmd="status")["step"] > step + 2)
    with KeeperUnderTest(tmp_path / "second") as keeper:
        trainer_pid = (await eventually(lambda: keeper.ask(cmd="status")))["trainer_pid"]
        assert keeper.process.stdin is not None
        keeper.process.stdin.close()
        await eventually(lambda: keeper.process.poll() == 0 and not alive(trainer_pid))


async def test_garbage_on_the_socket_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with KeeperUnderTest(tmp_path) as keeper:
        await eventually(lambda: keeper.ask(cmd="status")["ready"])
        assert "unknown command" in keeper.ask(cmd="dance")["refused"]
        assert "cannot read" in keeper.ask(cmd="start")["refused"]
        assert keeper.ask(cmd="renew", deadline_boottime_ns=1, anchor_at_ms=1, anchor_boottime_ns=1)["refused"]
        assert keeper.ask(cmd="status")["phase"] == "warm"
