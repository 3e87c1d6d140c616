"""System samples of a box while it trains: GPU through NVML, CPU, memory and disk through psutil."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import pynvml

from runner_agent import files, spool_budget
from runner_agent.line_file import LineFile
from runner_agent.losses import DISK_FULL, SAMPLES, SPOOL_FULL, Loss


class Sampler:
    """Reads the box. Simulated GPUs have no figures, and none are made up for them."""

    def __init__(self, gpu_uuids: tuple[str, ...], nvml: Any = pynvml) -> None:
        """`nvml` is the module `pynvml`, or another one that speaks like it."""
        self._gpu_uuids = gpu_uuids
        self._nvml = nvml
        self._handles: list[Any] = []
        psutil.cpu_percent()
        self._trees: dict[int, psutil.Process] = {}

    def sample(self, folder: Path, trainer_pid: int) -> dict[str, float]:
        """Series name → value. May block for as long as the driver does; what cannot be read is left out."""
        memory = psutil.virtual_memory()
        values: dict[str, float] = {
            "cpu/utilization_percent": psutil.cpu_percent(),
            "cpu/memory_used_bytes": memory.total - memory.available,
            "cpu/memory_total_bytes": memory.total,
        }
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(folder)
            values |= {"disk/used_bytes": disk.used, "disk/total_bytes": disk.total}
        values.update(self._tree(trainer_pid))
        for index, handle in enumerate(self._gpus()):
            values.update(_gpu(self._nvml, f"gpu{index}", handle))
        return values

    def _tree(self, pid: int) -> dict[str, float]:
        """What the trainer and its workers use; a process counts from the second sample that sees it."""
        if pid <= 0:
            return {}
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            found = {process.pid: process for process in [root, *root.children(recursive=True)]}
            self._trees = {pid: self._trees.get(pid, process) for pid, process in found.items()}
        percent, used_bytes = 0.0, 0
        for process in self._trees.values():
            with contextlib.suppress(psutil.Error):
                percent += process.cpu_percent()
                used_bytes += process.memory_info().rss
        return {"process/cpu_utilization_percent": percent, "process/memory_used_bytes": used_bytes}

    def _gpus(self) -> list[Any]:
        if self._gpu_uuids and not self._handles:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlInit()
                self._handles = [self._nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in self._gpu_uuids]
        return self._handles


def _gpu(nvml: Any, name: str, handle: Any) -> dict[str, float]:
    """Each figure by itself: many a GPU has no sensor for one of them, or only one clock."""
    values: dict[str, float] = {}
    with contextlib.suppress(nvml.NVMLError):
        values[f"{name}/utilization_percent"] = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
    with contextlib.suppress(nvml.NVMLError):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        values |= {f"{name}/memory_used_bytes": memory.used, f"{name}/memory_total_bytes": memory.total}
    with contextlib.suppress(nvml.NVMLError):
        values[f"{name}/temperature_celsius"] = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    with contextlib.suppress(nvml.NVMLError):
        values[f"{name}/power_watts"] = nvml.nvmlDeviceGetPowerUsage(handle) / 1000
    with contextlib.suppress(nvml.NVMLError):
        values[f"{name}/sm_clock_mhz"] = nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
    with contextlib.suppress(nvml.NVMLError):
        values[f"{name}/memory_clock_mhz"] = nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)
    return values


class SystemSpool:
    """`spool/system.jsonl` of one attempt; goes on where an earlier agent has left off."""

    def __init__(self, folder: Path, now_ns: int) -> None:
        """Raises OSError where there cannot be such a file."""
        base_path = folder / "system.base"
        base = files.read_json(base_path)
        if base is None:
            base = {"boottime_ns": now_ns}
            files.replace(base_path, json.dumps(base).encode(), durable=False)
        self._base_ns = int(base["boottime_ns"])
        self._budget = spool_budget.Budget(folder)
        self._gate = spool_budget.first_to_go()
        self._file = LineFile(folder / "system.jsonl")

    def append(self, values: dict[str, float], at_ms: int, now_ns: int) -> Loss | None:
        """Add a sample; steps are the milliseconds since the first. What it returns had no room and is dropped."""
        if not self._gate.is_open(self._budget.share(now_ns)):
            return Loss(SAMPLES, 1, at_ms, at_ms, SPOOL_FULL)
        points = {"step": max(0, (now_ns - self._base_ns) // 1_000_000), "values": values}
        line = json.dumps({"at_ms": at_ms, "points": points}).encode() + b"\n"
        if not self._file.append([line]):
            return Loss(SAMPLES, 1, at_ms, at_ms, DISK_FULL)
        self._budget.wrote(len(line))
        return None

    def close(self) -> None:
        self._file.close()
