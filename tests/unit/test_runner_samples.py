"""What is sampled of a GPU and of the box, and that one missing sensor costs nothing else."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from runner_agent.samples import Sampler
from tests.support.nvml import GIB, FakeNvml

SENSORS = {
    "nvmlDeviceGetUtilizationRates": {"utilization_percent": 97},
    "nvmlDeviceGetMemoryInfo": {"memory_used_bytes": 0, "memory_total_bytes": 24 * GIB},
    "nvmlDeviceGetTemperature": {"temperature_celsius": 66},
    "nvmlDeviceGetPowerUsage": {"power_watts": 149.5},
    "nvmlDeviceGetClockInfo": {"sm_clock_mhz": 1710, "memory_clock_mhz": 6251},
}


class Gpu(FakeNvml):
    def nvmlDeviceGetUtilizationRates(self, _handle: str) -> Any:
        return self._answer("nvmlDeviceGetUtilizationRates", SimpleNamespace(gpu=97))

    def nvmlDeviceGetTemperature(self, _handle: str, _sensor: int) -> Any:
        return self._answer("nvmlDeviceGetTemperature", 66)

    def nvmlDeviceGetPowerUsage(self, _handle: str) -> Any:
        return self._answer("nvmlDeviceGetPowerUsage", 149_500)

    def nvmlDeviceGetClockInfo(self, _handle: str, kind: int) -> Any:
        clocks = {pynvml.NVML_CLOCK_SM: 1710, pynvml.NVML_CLOCK_MEM: 6251}
        return self._answer("nvmlDeviceGetClockInfo", clocks[kind])


def of_gpu(sample: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix("gpu0/"): value for name, value in sample.items() if name.startswith("gpu0/")}


@pytest.mark.parametrize("missing", [None, *SENSORS])
def test_a_sensor_that_is_missing_costs_nothing_else(missing: str | None, tmp_path: Path) -> None:
    gpu = Gpu()
    if missing:
        gpu.failing[missing] = pynvml.NVML_ERROR_NOT_SUPPORTED
    sample = Sampler(("GPU-1",), gpu).sample(tmp_path, os.getpid())
    expected = [values for name, values in SENSORS.items() if name != missing]
    assert of_gpu(sample) == {name: value for values in expected for name, value in values.items()}


def test_the_box_is_told_with_what_there_is_of_each(tmp_path: Path) -> None:
    sample = Sampler(()).sample(tmp_path, os.getpid())
    assert 0 < sample["cpu/memory_used_bytes"] < sample["cpu/memory_total_bytes"]
    assert 0 < sample["disk/used_bytes"] <= sample["disk/total_bytes"]
    assert "cpu/utilization_percent" in sample
    assert sample["process/memory_used_bytes"] > 0
