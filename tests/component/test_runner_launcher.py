"""`tether-runner` from install to uninstall: launcher, agent, keeper and the real trainer as processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent import files
from runner_agent.attempts import AttemptFolder
from runner_agent.config import StateFolder
from runner_agent.locks import Lock
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.installed_runner import KEY
from tests.support.keeper_under_test import alive

# Loading torch on a busy machine.
LOAD_TIMEOUT_S = 90.0


class Box:
    """A box on which commands are run."""

    def __init__(self, state: Path, server: str) -> None:
        self.folder = StateFolder(state)
        self.server = server
        self._environment = {
            **os.environ,
            "TETHER_RUNNER_STATE": str(state),
            "TETHER_RUNNER_KEY": KEY,
            "COLUMNS": "200",
        }

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "runner_agent.cli", *arguments]
        return subprocess.run(command, env=self._environment, text=True, capture_output=True, timeout=100, check=False)

    def install(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.command("install", "--server", self.server, *arguments)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.command("status", "--json").stdout))


@pytest.fixture
async def platform() -> AsyncIterator[FakeScheduler]:
    platform = await FakeScheduler(heartbeat_interval_ms=1000).start()
    yield platform
    await platform.stop()


@pytest.fixture
async def box(tmp_path: Path, platform: FakeScheduler) -> AsyncIterator[Box]:
    box = Box(tmp_path / "state", platform.address)
    yield box
    if Lock(box.folder.lock).holder():
        os.kill(Lock(box.folder.lock).holder(), signal.SIGKILL)
    for path in box.folder.attempts.glob("*/phase.json"):
        pid = (files.read_json(path) or {}).get("keeper_pid", 0)
        if pid and alive(pid):
            os.kill(pid, signal.SIGKILL)


async def run(box: Box, *arguments: str) -> str:
    """The output of a command that succeeds, while the platform goes on."""
    done = await asyncio.to_thread(box.command, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def digits_spec(folder: Path, epochs: int) -> training_pb2.TrainingSpec:
    spec = training_pb2.TrainingSpec()
    spec.dataset.location = str(folder)
    spec.dataset.format = training_pb2.DATASET_FORMAT_IMAGE_FOLDER
    spec.architecture.architecture_id = "resnet-tiny"
    spec.architecture.task = training_pb2.TASK_CLASSIFICATION
    spec.architecture.family = "resnet"
    spec.architecture.config_json = json.dumps({"depths": [1], "hidden_sizes": [16], "embedding_size": 16})
    spec.hyperparameters.image_size = 8
    spec.limits.epochs = epochs
    return spec


async def test_a_runner_from_install_to_uninstall_with_a_real_training(
    box: Box, platform: FakeScheduler, tmp_path: Path
) -> None:
    await run(box, "sample", "digits", str(tmp_path / "digits"))
    assert "simulated" in await run(box, "install", "--server", box.server, "--simulate-gpus", "NVIDIA T4:1")
    assert box.folder.secret_key.stat().st_mode & 0o077 == 0
    assert "online" in await run(box, "start")
    launcher_pid = Lock(box.folder.lock).holder()
    assert b"tk_" not in Path(f"/proc/{launcher_pid}/cmdline").read_bytes()

    # A launcher that is killed takes agent and warm pair with it, and nothing else is left over.
    agent_pid = Lock(box.folder.agent_lock).holder()
    os.kill(launcher_pid, signal.SIGKILL)
    await eventually(lambda: not alive(agent_pid) and not list(box.folder.keepers.glob("*.sock")))
    await run(box, "start")
    await eventually(lambda: (files.read_json(box.folder.status) or {}).get("warm"), LOAD_TIMEOUT_S, "a warm trainer")

    platform.direct("a1", spec=digits_spec(tmp_path / "digits", epochs=1000))
    await eventually(lambda: "evaluated" in platform.facts("a1"), LOAD_TIMEOUT_S)
    agent_pid = Lock(box.folder.agent_lock).holder()
    hellos = len(platform.hellos)
    os.kill(agent_pid, signal.SIGKILL)
    await eventually(lambda: len(platform.hellos) > hellos, what="an agent that was started again")
    assert list(platform.hellos[-1].live_attempts) == ["a1"]
    assert "training" in await run(box, "status")

    # The attempt's keeper is the launcher's own child: it outlives the launcher's new beginning.
    launcher_pid = Lock(box.folder.lock).holder()
    phase = AttemptFolder(box.folder.attempts, "a1").phase()
    hellos = len(platform.hellos)
    assert "goes on (attempt a1)" in await run(box, "restart")
    assert len(platform.hellos) == hellos + 1
    assert list(platform.hellos[-1].live_attempts) == ["a1"]
    assert Lock(box.folder.lock).holder() == launcher_pid
    assert alive(phase["keeper_pid"])
    assert alive(phase["trainer_pid"])
    seen = len(platform.records["a1/trainer"])
    await eventually(lambda: len(platform.records["a1/trainer"]) > seen, what="records after the restart")

    refused = box.command("stop")
    assert refused.returncode != 0
    assert "--yes" in refused.stderr
    assert "is stopped" in await run(box, "stop", "--yes")
    ended = platform.ended("a1")
    assert ended is not None
    assert (ended.outcome, ended.reason) == (session_pb2.OUTCOME_KILLED, training_pb2.END_REASON_STOPPED_BY_PERSON)
    assert platform.facts("a1")[-2:] == ["checkpointed", "ended"]
    assert not ended.message.startswith("Traceback")
    written = (AttemptFolder(box.folder.attempts, "a1").spool / "trainer.jsonl").read_bytes().count(b"\n")
    assert list(platform.records["a1/trainer"]) == list(range(1, written + 1))
    assert platform.holes == 0
    assert box.status()["running"] is False
    assert list(box.folder.keepers.glob("*.sock")) == []
    assert "launcher stops" in await run(box, "logs")

    assert "checkpoint files are left" in await run(box, "uninstall", "--yes")
    assert [path.name for path in box.folder.root.iterdir()] == ["attempts"]


def test_wrong_input_is_refused_in_one_sentence(tmp_path: Path) -> None:
    box = Box(tmp_path / "state", "127.0.0.1:1")
    simulate = ("--simulate-gpus", "NVIDIA T4")
    cases = [
        (box.install(), "no NVIDIA GPU"),
        (box.install("--simulate-gpus", "Voodoo 2:1"), "choose one of"),
        (box.install("--simulate-gpus", "NVIDIA T4:0"), "choose 1 to"),
        (box.install(*simulate, "--key-file", str(tmp_path / "absent")), "cannot read the secret key"),
        (box.command("install", "--server", "nonsense", *simulate), "host:port"),
        (box.command("install", "--server", "192.0.2.1:50061", *simulate), "not be encrypted"),
        (box.command("status"), "no runner is installed"),
        (box.command("stop", "--yes"), "no runner is installed"),
    ]
    for done, sentence in cases:
        assert done.returncode == 1
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
    assert box.install(*simulate).returncode == 0
    assert "already" in box.install(*simulate).stderr
    (tmp_path / "state" / "config.toml").write_text("name = 3")
    damaged = box.command("status")
    assert (damaged.returncode, damaged.stderr.count("\n")) == (1, 1)
