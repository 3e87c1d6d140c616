"""The probes of the box's GPUs: through a stand-in for NVML, through real processes, through a real torch."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
import torch

from runner_agent import sweep
from runner_agent.gpu_health import Holder
from runner_agent.gpu_probe import GpuProbe
from runner_agent.health import TorchSeen
from runner_agent.torch_probe import TorchProbe
from tests.support.eventually import eventually
from tests.support.keeper_under_test import KeeperUnderTest
from tests.support.nvml import FakeNvml

GIB = 1024**3


@pytest.fixture
def nvml() -> FakeNvml:
    return FakeNvml()


@pytest.fixture
def probe(nvml: FakeNvml) -> GpuProbe:
    return GpuProbe(("GPU-1",), nvml)


def test_a_gpu_that_is_well_is_seen_as_such_and_nvml_stays_open_to_listen(probe: GpuProbe, nvml: FakeNvml) -> None:
    found = probe.look()
    assert (found.error, found.gpus[0].name, found.gpus[0].vram_bytes) == ("", "GPU 0 (NVIDIA A10G)", 24 * GIB)
    assert found.now_ns > 0
    nvml.xids += [79, 31]
    nvml.uncorrectable, nvml.retiring, nvml.rows = 3, 1, (1, 1, 1, 1)
    gpu = probe.look().gpus[0]
    assert (gpu.xids, gpu.uncorrectable_errors, gpu.repair_pending, gpu.repair_failed) == ((79, 31), 3, True, True)
    assert probe.look().gpus[0].xids == (), "told once"
    assert nvml.opened == 1


def test_a_gpu_without_counters_or_events_is_not_ill(probe: GpuProbe, nvml: FakeNvml) -> None:
    for name in ("nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetRetiredPagesPendingStatus", "nvmlDeviceGetRemappedRows"):
        nvml.failing[name] = pynvml.NVML_ERROR_NOT_SUPPORTED
    nvml.failing["nvmlEventSetCreate"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    nvml.failing["nvmlDeviceGetComputeRunningProcesses"] = pynvml.NVML_ERROR_NO_PERMISSION
    found = probe.look()
    assert found.error == ""
    assert found.gpus[0].uncorrectable_errors == 0


@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetHandleByUUID"]
)
def test_a_lost_gpu_is_an_error_of_the_driver_and_is_found_again_when_it_comes_back(
    probe: GpuProbe, nvml: FakeNvml, call: str
) -> None:
    nvml.failing[call] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert "GPU is lost" in probe.look().error
    assert "GPU is lost" in probe.look().error
    nvml.failing.clear()
    assert probe.look().error == ""
    assert nvml.opened == 1
    assert nvml.listening


def test_only_programs_that_are_not_a_runners_own_are_foreign(probe: GpuProbe, nvml: FakeNvml) -> None:
    ours = subprocess.Popen(["sleep", "60"], env={**os.environ, "TETHER_PAIR": "pair-1"})
    theirs = subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"]})
    gone = subprocess.Popen(["true"])
    gone.wait()
    try:
        nvml.processes = [
            SimpleNamespace(pid=process.pid, usedGpuMemory=used)
            for process, used in ((ours, GIB), (theirs, 2 * GIB), (gone, GIB))
        ]
        assert probe.look().gpus[0].holders == (Holder(theirs.pid, "sleep", 2 * GIB),)
        nvml.processes[1].usedGpuMemory = None
        assert probe.look().gpus[0].holders[0].used_bytes == 0
        assert sweep.described([theirs.pid]) == f"process {theirs.pid} (sleep, state S)"
        theirs.kill()
        # Dead and not collected yet: it holds nothing.
        os.waitid(os.P_PID, theirs.pid, os.WEXITED | os.WNOWAIT)
        assert probe.look().gpus[0].holders == ()
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this box has a GPU that torch can use")
def test_a_real_torch_that_cannot_use_the_gpus_says_so_with_both_versions(tmp_path: Path) -> None:
    found = TorchProbe(("GPU-00000000-0000-0000-0000-000000000000",), tmp_path).look()
    assert found is not None
    assert f"torch {torch.__version__}" in found.problem
    assert "driver" in found.problem
    assert "can use 0 of the runner's 1 GPUs; install a build of torch that fits" in found.problem


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import json; print(json.dumps({'problem': ''}))", ""),
        ("import sys; sys.exit('libcudart.so.13: cannot open shared object file')", "libcudart.so.13: cannot open"),
        ("import os; os._exit(9)", "exit code 9"),
    ],
)
def test_whatever_becomes_of_the_check_is_told_in_one_sentence(tmp_path: Path, program: str, told: str) -> None:
    found = TorchProbe(("GPU-1",), tmp_path, [sys.executable, "-c", program]).look()
    assert found is not None
    assert told in found.problem
    assert bool(found.problem) is bool(told)


async def test_torch_is_not_asked_while_a_training_uses_the_gpus(tmp_path: Path) -> None:
    probe = TorchProbe((), tmp_path, [sys.executable, "-c", 'print(\'{"problem": "asked"}\')'])
    with KeeperUnderTest(tmp_path) as keeper:
        await eventually(lambda: keeper.ask(cmd="status")["ready"])
        assert probe.look() == TorchSeen("asked")
        keeper.start()
        await eventually(lambda: keeper.ask(cmd="status")["step"] > 0)
        assert probe.look() is None
