"""The agent as a process, between a platform on a real socket and keepers with stand-in trainers."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from tests.support import datasets
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler, Frame
from tests.support.installed_runner import KEY, InstalledRunner, kill
from tests.support.keeper_under_test import alive


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler().start()
    yield platform
    await platform.stop()


@pytest.fixture
def box(tmp_path: Path, platform: FakeScheduler) -> AsyncIterator[InstalledRunner]:
    with InstalledRunner(tmp_path / "state", platform.address) as box:
        yield box


async def training(
    box: InstalledRunner, platform: FakeScheduler, attempt_id: str = "a1", window_ms: int = 60_000
) -> None:
    box.start_keeper("--with-child")
    box.start_agent()
    await eventually(lambda: platform.hellos, what="Hello")
    platform.direct(attempt_id, window_ms=window_ms)
    await eventually(lambda: "started" in platform.facts(attempt_id), what="Started")


def assert_complete(box: InstalledRunner, platform: FakeScheduler, attempt_id: str, spool: str) -> bool:
    """Everything that lies in the spool has arrived, once and in order."""
    expected = box.lines(attempt_id, spool)
    assert list(platform.records[f"{attempt_id}/{spool}"]) == list(range(1, expected + 1))
    assert platform.holes == 0
    return True


async def test_a_training_runs_and_is_reported_with_moments_on_the_platform_clock(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    box.start_keeper("--steps", "30")
    box.start_agent()
    await eventually(lambda: platform.hellos)
    assert platform.hellos[0].inventory.simulated
    assert [gpu.type for gpu in platform.hellos[0].inventory.gpus] == ["NVIDIA A10G"] * 2
    assert platform.keys == {f"Bearer {KEY}"}
    platform.direct("a1")
    ended = await eventually(lambda: platform.ended("a1"), what="Ended")
    assert platform.facts("a1") == ["started", "checkpointed", "ended"]
    assert ended.outcome == session_pb2.OUTCOME_FINISHED
    assert (ended.steps, ended.metrics["accuracy"]) == (30, 0.5)
    moments = [at.anchor_at_ms + at.elapsed_ms for at in (ended.started_at, ended.ended_at)]
    assert 600 <= moments[1] - moments[0] < 30_000
    assert not ended.HasField("stop_began_at")
    await eventually(lambda: assert_complete(box, platform, "a1", "trainer"))
    await eventually(lambda: assert_complete(box, platform, "a1", "log"))
    await eventually(lambda: assert_complete(box, platform, "a1", "system"))
    sample = platform.records["a1/system"][1].points.values
    assert sample["cpu/memory_used_bytes"] > 0
    assert not [name for name in sample if name.startswith("gpu")]
    await eventually(lambda: (box.attempt("a1").path / "shipped").exists())
    await eventually(lambda: box.status()["unreported"] == 0 and box.status()["attempt"] is None)


async def test_a_killed_agent_goes_on_with_the_same_attempt_and_no_record_is_lost(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    await training(box, platform)
    trainer_pid = box.trainer_pids("a1")[0]
    for _ in range(3):
        seen = len(platform.records["a1/trainer"])
        await eventually(lambda: len(platform.records["a1/trainer"]) > seen + 5)  # noqa: B023
        hellos = len(platform.hellos)
        box.kill_agent()
        box.start_agent()
        await eventually(lambda: len(platform.hellos) > hellos)  # noqa: B023
        assert list(platform.hellos[-1].live_attempts) == ["a1"]
        assert alive(trainer_pid)
    platform.direct("a1", stop_reason=training_pb2.END_REASON_QUOTA_EXHAUSTED)
    ended = await eventually(lambda: platform.ended("a1"))
    assert (ended.outcome, ended.reason) == (session_pb2.OUTCOME_KILLED, training_pb2.END_REASON_QUOTA_EXHAUSTED)
    assert ended.HasField("stop_began_at")
    assert platform.facts("a1") == ["started", "checkpointed", "ended"]
    assert not any(alive(pid) for pid in [trainer_pid, *box.trainer_pids("a1")])
    for spool in ("trainer", "log", "system"):
        await eventually(lambda: assert_complete(box, platform, "a1", spool))  # noqa: B023


async def test_a_killed_keeper_is_noticed_swept_and_reported_as_infrastructure(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    await training(box, platform)
    pids = box.trainer_pids("a1")
    kill(box.held()[0]["keeper_pid"])
    ended = await eventually(lambda: platform.ended("a1"))
    assert (ended.outcome, ended.reason) == (session_pb2.OUTCOME_FAILED, training_pb2.END_REASON_INFRASTRUCTURE)
    assert not any(alive(pid) for pid in pids)
    assert ended.started_at.elapsed_ms <= ended.ended_at.elapsed_ms
    await eventually(lambda: box.status()["attempt"] is None)


async def test_a_keeper_that_died_while_no_agent_ran_is_reported_by_the_next(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    await training(box, platform)
    pids = box.trainer_pids("a1")
    box.kill_agent()
    kill(box.held()[0]["keeper_pid"])
    box.start_agent()
    ended = await eventually(lambda: platform.ended("a1"))
    assert ended.reason == training_pb2.END_REASON_INFRASTRUCTURE
    assert not any(alive(pid) for pid in pids)


async def test_a_cut_off_training_ends_itself_at_its_deadline_and_is_told_afterwards(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    await training(box, platform, window_ms=1500)
    await platform.stop()
    await eventually(lambda: not box.held(), what="the end of the training")
    assert not any(alive(pid) for pid in box.trainer_pids("a1"))
    assert platform.ended("a1") is None
    await platform.start()
    ended = await eventually(lambda: platform.ended("a1"), timeout_s=20)
    assert (ended.outcome, ended.reason) == (session_pb2.OUTCOME_KILLED, training_pb2.END_REASON_CONNECTION_LOST)
    for spool in ("trainer", "log"):
        await eventually(lambda: assert_complete(box, platform, "a1", spool), timeout_s=20)  # noqa: B023


async def test_a_platform_that_falls_silent_is_left_and_dialled_anew_while_the_training_runs(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    await training(box, platform)
    platform.mute = True
    await eventually(lambda: "did not acknowledge" in box.status()["error"])
    platform.mute = False
    await eventually(lambda: len(platform.hellos) > 1, timeout_s=30)
    assert list(platform.hellos[-1].live_attempts) == ["a1"]
    platform.direct()
    ended = await eventually(lambda: platform.ended("a1"))
    assert ended.reason == training_pb2.END_REASON_STOPPED_BY_PERSON


async def test_reports_wait_for_their_acknowledgement_and_are_repeated(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    platform.withhold_reports = True
    box.start_keeper("--steps", "3")
    box.start_agent()
    await eventually(lambda: platform.hellos)
    platform.direct("a1")
    await eventually(lambda: box.status()["unreported"] == 3)
    box.kill_agent()
    platform.withhold_reports = False
    box.start_agent()
    await eventually(lambda: platform.ended("a1"))
    assert platform.facts("a1") == ["started", "checkpointed", "ended"]


async def test_a_known_attempt_is_answered_and_never_started_again(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    box.start_keeper("--steps", "3")
    box.start_agent()
    await eventually(lambda: platform.hellos)
    platform.direct("a1")
    await eventually(lambda: platform.ended("a1") and box.status()["unreported"] == 0)
    keeper = box.start_keeper()
    reports = len(platform.reports)
    platform.direct("a1")
    await eventually(lambda: len(platform.reports) > reports)
    assert platform.reports[-1].HasField("ended")
    assert platform.reports[-1].sequence == 3
    assert not box.held()
    assert keeper.poll() is None


async def test_an_attempt_waits_for_a_pair_and_a_withdrawn_one_is_never_started(
    box: InstalledRunner, platform: FakeScheduler
) -> None:
    box.start_agent()
    await eventually(lambda: platform.hellos)
    platform.direct("a1")
    await eventually(lambda: box.status()["attempt"]["place"] == "waiting")
    platform.direct()
    ended = await eventually(lambda: platform.ended("a1"))
    assert ended.outcome == session_pb2.OUTCOME_KILLED
    assert not ended.HasField("started_at")
    platform.direct("a2")
    box.start_keeper("--steps", "3")
    await eventually(lambda: platform.ended("a2"))
    assert platform.facts("a1") == ["ended"]


async def test_a_rejected_report_blocks_nothing(box: InstalledRunner, platform: FakeScheduler) -> None:
    platform.reject = "the attempt is unknown"
    box.start_keeper("--steps", "3")
    box.start_agent()
    await eventually(lambda: platform.hellos)
    platform.direct("a1")
    await eventually(lambda: platform.facts("a1") == ["started", "checkpointed", "ended"])
    await eventually(lambda: box.status()["unreported"] == 0)
    assert "the attempt is unknown" in box.folder.agent_log.read_text()


@pytest.mark.parametrize("how", ["status", "goodbye"])
async def test_a_refused_key_is_told_in_one_sentence(box: InstalledRunner, platform: FakeScheduler, how: str) -> None:
    if how == "status":
        platform.refuse = grpc.StatusCode.UNAUTHENTICATED
        box.start_agent()
    else:
        box.start_agent()
        await eventually(lambda: platform.hellos)
        reason = "this key was regenerated on Monday; use the new one"
        platform.say(Frame(goodbye=session_pb2.Goodbye(reason=reason, reconnect=False)))
    await eventually(lambda: box.status()["refused"])
    assert "regenerated on Monday" in box.status()["error"]
    assert box.status()["connected"] is False


async def test_a_stopped_agent_leaves_the_training_alone(box: InstalledRunner, platform: FakeScheduler) -> None:
    await training(box, platform)
    box.kill_agent(signal.SIGTERM)
    assert box.held()[0]["phase"] == "running"
    assert alive(box.trainer_pids("a1")[0])


async def test_a_dataset_is_looked_at_on_request(box: InstalledRunner, platform: FakeScheduler, tmp_path: Path) -> None:
    box.start_agent()
    await eventually(lambda: platform.hellos)
    dataset = training_pb2.Dataset(location=str(tmp_path / "nowhere"), format=training_pb2.DATASET_FORMAT_IMAGE_FOLDER)
    platform.say(Frame(check_dataset=session_pb2.CheckDatasetOnBox(check_id="c1", dataset=dataset)))
    await eventually(lambda: platform.checked, timeout_s=30)
    assert platform.checked[0].check_id == "c1"
    assert not platform.checked[0].report.usable
    assert platform.checked[0].report.problems[0].fatal


async def test_a_check_is_by_the_format_and_within_the_folders_that_the_owner_allows(
    box: InstalledRunner, platform: FakeScheduler, tmp_path: Path
) -> None:
    inside, outside = datasets.coco(tmp_path / "data" / "inside", 4), datasets.coco(tmp_path / "outside", 4)
    box.folder.save(box.folder.load().model_copy(update={"dataset_roots": (str(tmp_path / "data"),)}))
    box.start_agent()
    await eventually(lambda: platform.hellos)
    for check_id, location in (("inside", inside), ("outside", outside)):
        dataset = training_pb2.Dataset(location=str(location), format=training_pb2.DATASET_FORMAT_COCO)
        platform.say(Frame(check_dataset=session_pb2.CheckDatasetOnBox(check_id=check_id, dataset=dataset)))
    await eventually(lambda: len(platform.checked) == 2, timeout_s=30)
    found = {one.check_id: one.report for one in platform.checked}
    assert (found["inside"].usable, found["inside"].task) == (True, training_pb2.TASK_DETECTION)
    assert "lies outside the folders of this runner's datasets" in found["outside"].problems[0].message
