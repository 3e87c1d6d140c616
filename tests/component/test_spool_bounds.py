"""The spools of an attempt on a real disk: bounded, in order, delivered once, given back."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.scheduler.v1 import session_pb2
from runner_agent import disk_blocks, spool, spool_budget
from runner_agent.attempts import AttemptFolder
from runner_agent.config import Server, StateFolder
from runner_agent.disk import use, warnings
from runner_agent.keeper_log import LogSpool
from runner_agent.line_file import LineFile
from runner_agent.losses import Loss
from runner_agent.samples import SystemSpool
from runner_agent.shipper import Shipper
from runner_agent.trainer.spool import TELL_INTERVAL_NS
from runner_agent.trainer.spool import Spool as TrainerSpool
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.installed_runner import KEY
from tests.support.keeper_under_test import KeeperUnderTest
from tests.support.small_disk import SmallDisk

LIMIT_BYTES = 4 * 1024 * 1024


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler().start()
    yield platform
    await platform.stop()


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFolder:
    attempt = AttemptFolder(tmp_path, "a1")
    attempt.make(session_pb2.Assignment(attempt_id="a1", job_id="job-of-a1"))
    spool_budget.write_limit(attempt.spool, LIMIT_BYTES)
    return attempt


class Writers:
    """All three writers of an attempt, under a clock that the test holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ns = 1
        self.log = LogSpool()
        self.log.open(folder)
        self.trainer = TrainerSpool(folder / "trainer.jsonl", lambda: 1, self.log.lost, lambda: self.now_ns)
        self.system = SystemSpool(folder, self.now_ns)
        self.step = 0
        self.lines = 0

    def write(self, rounds: int, *, evaluations_only: bool = False) -> None:
        for _ in range(rounds):
            self.now_ns += TELL_INTERVAL_NS
            self.step += 10
            matrix = {"classes": ["c" * 300], "counts": [1]}
            self.trainer.evaluation({"step": self.step, "metrics": {"accuracy": 0.5}, "confusion_matrix": matrix})
            if evaluations_only:
                continue
            self.log.add([b"x" * 500] * 40, error=False)
            self.lines += 40
            points = [(1, self.step + one, {"train/loss": 0.5}) for one in range(10)]
            self.trainer.points(points * 20)
            lost = self.system.append({"cpu/utilization_percent": 1.0}, 1, self.now_ns)
            if lost is not None:
                self.log.lost(lost)

    @property
    def used_bytes(self) -> int:
        return spool_budget.used_bytes(self.folder)

    def kept(self, name: str, kind: str) -> int:
        records = [json.loads(line) for line in (self.folder / f"{name}.jsonl").read_bytes().splitlines()]
        return sum(kind in record for record in records)


def test_a_full_spool_keeps_the_evaluations_longest_never_grows_beyond_and_counts_what_it_drops(
    attempt: AttemptFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_budget, "LOOK_INTERVAL_NS", 0)
    writers = Writers(attempt.spool)
    writers.write(250)
    assert writers.used_bytes <= LIMIT_BYTES
    dropped = writers.log.dropped
    assert dropped["log lines"] + writers.kept("log", "log_line") == writers.lines
    assert dropped["metric points"] + writers.kept("trainer", "points") == 250 * 200
    assert dropped["system samples"] + writers.kept("system", "points") == 250
    assert "evaluations" not in dropped
    assert writers.kept("trainer", "evaluation") == 250
    writers.write(3_500, evaluations_only=True)
    assert writers.used_bytes <= LIMIT_BYTES
    assert writers.log.dropped["evaluations"] > 0
    assert writers.log.dropped["evaluations"] + writers.kept("trainer", "evaluation") == 3_750


async def test_what_was_kept_arrives_once_and_in_order_with_one_warning_and_the_disk_gets_its_room_back(
    attempt: AttemptFolder, platform: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_budget, "LOOK_INTERVAL_NS", 0)
    writers = Writers(attempt.spool)
    writers.write(150)
    full_bytes = writers.used_bytes
    shipper = Shipper(Server("nowhere:1", tls=False), KEY, lambda: 0.0)
    shipper.ship_to(platform.address)
    shipper.hold(attempt)
    shipping = asyncio.create_task(shipper.run())
    try:
        await eventually(lambda: shipper.backlog_bytes() == 0, what="delivery")
        assert writers.used_bytes < full_bytes
        assert writers.used_bytes < 4 * disk_blocks.UNIT_BYTES
        writers.write(1)
        writers.log.tell_losses()
        shipper.over("a1")
        await eventually(lambda: (attempt.path / "shipped").exists())
    finally:
        shipping.cancel()
        await asyncio.wait([shipping])
    assert platform.holes == platform.doubled == 0
    lines = [record.log_line.text for record in platform.records["a1/log"].values()]
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert len(warnings) == 1
    count = int(warnings[0].split()[1].replace(",", ""))
    assert count + len(lines) - 1 == writers.lines
    assert "its spool of 4 MiB was full" in warnings[0]
    evaluations = [one for one in platform.records["a1/trainer"].values() if one.HasField("evaluation")]
    assert [one.evaluation.step for one in evaluations] == [10 * number for number in range(1, 152)]


def test_a_spool_that_gave_room_back_goes_on_where_it_was_whatever_a_crash_left(attempt: AttemptFolder) -> None:
    path = attempt.spool / "trainer.jsonl"
    written = LineFile(path)
    lines = [b'{"at_ms": %d, "log_line": {"text": "%s"}}\n' % (one, b"x" * 470) for one in range(1, 10_001)]
    assert written.append(lines) == 10_000
    reader = spool.Spool(attempt.spool, "trainer")
    place = reader.acknowledged
    while (batch := reader.read(place)) is not None and batch.first_sequence < 8_000:
        place = batch.end
        reader.acknowledge(place)
    before = path.stat().st_size
    assert spool_budget.bytes_on_disk(path) < before - 2 * disk_blocks.UNIT_BYTES
    # A power cut may take the newest mark, but not the one of what was given back.
    (attempt.spool / "trainer.acknowledged").write_bytes(b"")
    again = spool.Spool(attempt.spool, "trainer")
    assert 0 < again.acknowledged.sequence <= place.sequence
    batch = again.read(again.acknowledged)
    assert batch is not None
    assert batch.records[0].at_ms == batch.first_sequence
    # The writer, too, finds the end.
    assert LineFile(path).append([b'{"at_ms": 1}\n']) == 1
    assert path.stat().st_size == before + len(b'{"at_ms": 1}\n')


@pytest.mark.mounts
def test_on_a_disk_that_fills_up_no_line_is_torn_and_none_that_was_read_is_taken_back(tmp_path: Path) -> None:
    @settings(max_examples=20, deadline=None)
    @given(sizes=st.lists(st.integers(1, 300_000), min_size=1, max_size=30), every=st.integers(2, 5))
    def law(sizes: list[int], every: int) -> None:
        with SmallDisk(tmp_path / "disk", size_mib=1) as disk:
            file = LineFile(disk.path / "lines")
            kept: list[bytes] = []
            for number, size in enumerate(sizes):
                if number % every == 1:
                    disk.fill()
                lines = [b"%d:%d:" % (number, one) + b"x" * (size // 3) + b"\n" for one in range(3)]
                kept += lines[: file.append(lines)]
                content = (disk.path / "lines").read_bytes()
                assert content[: content.rfind(b"\n") + 1] == b"".join(kept)
                if number % every == 1:
                    disk.free()
            file.close()

    law()


@pytest.mark.mounts
def test_a_trainers_evaluations_wait_for_the_disk_and_come_in_order(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", size_mib=1) as disk:
        lost: list[Loss] = []
        written = TrainerSpool(disk.path / "trainer.jsonl", lambda: 1, lost.append)
        written.evaluation({"step": 1, "metrics": {"accuracy": 0.1}})
        disk.fill()
        for step in range(2, 80):
            written.points([(1, step, {"train/loss": 0.5})])
            written.evaluation({"step": step, "metrics": {"accuracy": 0.1}})
        disk.free()
        written.evaluation({"step": 80, "metrics": {"accuracy": 0.1}})
        written.finish()
        records = [json.loads(line) for line in (disk.path / "trainer.jsonl").read_bytes().splitlines()]
        evaluations = [one["evaluation"]["step"] for one in records if "evaluation" in one]
        points = [one for one in records if "points" in one]
        assert evaluations == list(range(1, 81))
        assert sum(loss.count for loss in lost) + len(points) == 78
        assert {(loss.kind, loss.cause) for loss in lost} == {("metric points", "disk")}


async def test_a_keeper_tells_what_the_agent_and_the_trainer_dropped_in_one_line_at_the_latest_at_the_end(
    tmp_path: Path,
) -> None:
    folder = StateFolder(tmp_path / "state")
    attempt = AttemptFolder(folder.attempts, "attempt-1")
    attempt.make(session_pb2.Assignment(attempt_id="attempt-1", job_id="job-1"))
    spool_budget.write_limit(attempt.spool, LIMIT_BYTES)
    # The log has had its share: there is no room for the line before the end.
    (attempt.spool / "trainer.jsonl").write_bytes(b"x" * (LIMIT_BYTES * 6 // 10))
    with KeeperUnderTest(tmp_path) as keeper:
        keeper.directory = attempt.path
        await eventually(lambda: keeper.ask(cmd="status")["ready"])
        keeper.start()
        await eventually(lambda: keeper.ask(cmd="status")["step"] > 2)
        for count in (2, 3):
            loss = Loss("system samples", count, 60_000, 120_000, "spool")
            told = keeper.ask(cmd="dropped", **loss.as_json())
        assert (told["refused"], told["dropped"]["system samples"]) == ("", 5)
        assert "cannot read" in keeper.ask(cmd="dropped", kind="sheep")["refused"]
        keeper.ask(cmd="stop", reason="END_REASON_STOPPED_BY_PERSON", message="enough")
        await eventually(keeper.gone)
    lines = [json.loads(line)["log_line"]["text"] for line in (attempt.spool / "log.jsonl").read_bytes().splitlines()]
    assert len(lines) == 1
    assert "1 log line and 5 system samples of 00:01" in lines[0]
    found = use(folder)
    assert found.attempts[0].dropped == {"log lines": 1, "system samples": 5}
    assert warnings(found) == [
        "attempt-1: 1 log line and 5 system samples had no room in its spool of 4 MiB and were dropped"
    ]
