"""Why a training failed, from a fault in a real trainer to the outcome that its real keeper writes."""

import os
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format

from runner_agent import memory_kills
from runner_agent.trainer.datasets.sample import write_digits
from tests.support.eventually import eventually
from tests.support.keeper_under_test import KeeperUnderTest
from tests.support.trainer_process import assignment

START_TIMEOUT_S = 60.0
SIZES = "batch_size is 64 and image_size is 32: choose a smaller one, or a runner with more memory"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    location = tmp_path_factory.mktemp("digits")
    write_digits(location)
    return location


async def outcome_of(folder: Path, digits: Path, fault: str, around: tuple[str, ...] = ()) -> dict[str, object]:
    """The outcome of a training in which the fault happens at its third step."""
    command = (sys.executable, "-m", "tests.support.failing_trainer", fault)
    with KeeperUnderTest(folder, trainer=command, around=around) as keeper:
        text = json_format.MessageToJson(assignment(digits), preserving_proto_field_name=True)
        (keeper.directory / "assignment.json").write_text(text)
        await eventually(lambda: keeper.ask(cmd="status")["ready"], START_TIMEOUT_S, "a warm trainer")
        assert keeper.start()["refused"] == ""
        await eventually(lambda: keeper.process.poll() is not None, START_TIMEOUT_S, "the end")
        assert keeper.outcome()["started_boottime_ns"], "it had begun"
        return keeper.outcome()


@pytest.mark.parametrize(
    ("fault", "reason", "told"),
    [
        ("gpu-memory", "OUT_OF_MEMORY", SIZES),
        ("cuda", "INFRASTRUCTURE", "unspecified launch failure"),
        ("disk", "INFRASTRUCTURE", "check its disk"),
        ("bug", "CONFIGURATION", "a shape does not fit"),
        ("killed", "INFRASTRUCTURE", "was ended by signal 9"),
    ],
)
async def test_the_users_faults_and_the_boxs_are_told_apart(
    tmp_path: Path, digits: Path, fault: str, reason: str, told: str
) -> None:
    outcome = await outcome_of(tmp_path, digits, fault)
    assert (outcome["outcome"], outcome["reason"]) == ("FAILED", f"END_REASON_{reason}")
    assert told in str(outcome["message"])


@pytest.mark.mounts
async def test_a_training_that_the_kernel_kills_for_lack_of_memory_is_told_what_was_set(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's counter is a file of the test's, for the keeper and its trainer alone."""
    counter = tmp_path / "counter"
    counter.write_text("oom_kill 0\n")
    monkeypatch.setenv("OOM_COUNTER", str(counter))
    place = next(path for path in memory_kills._counters() if os.access(path, os.R_OK))
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    around = ("unshare", "--mount", "sh", "-c", script, "sh", str(counter), str(place))
    outcome = await outcome_of(tmp_path, digits, "kernel", around)
    assert (outcome["outcome"], outcome["reason"]) == ("FAILED", "END_REASON_OUT_OF_MEMORY")
    assert outcome["message"] == f"the box ran out of memory and its kernel ended the training; {SIZES}"
    assert outcome["steps"] == 1, "as far as it had told"
