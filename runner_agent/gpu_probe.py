"""Looks at the runner's GPUs through NVML, for their health."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

from runner_agent import clock, sweep
from runner_agent.gpu_health import GpuSeen, Holder
from runner_agent.health import DriverSeen

T = TypeVar("T")
# Events of one look; the driver keeps what is more for the next.
MOST_EVENTS = 100


class GpuProbe:
    """Keeps NVML open between looks, because it tells of XID errors only while somebody listens.

    `nvml` is the module `pynvml`, or another one that speaks like it.
    """

    def __init__(self, gpu_uuids: tuple[str, ...], nvml: Any = pynvml) -> None:
        self._gpu_uuids = gpu_uuids
        self._nvml = nvml
        # What a GPU answers that has no such thing.
        self._absent = {
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_NO_PERMISSION,
        }
        self._handles: list[Any] = []
        self._names: dict[str, str] = {}
        self._events: Any = None
        self._open = False

    def look(self) -> DriverSeen:
        """May block for as long as the driver does; never raises for what NVML says."""
        try:
            if not self._open:
                self._begin()
            xids = self._xids()
            gpus = tuple(
                self._gpu(uuid, handle, xids) for uuid, handle in zip(self._gpu_uuids, self._handles, strict=True)
            )
        except self._nvml.NVMLError as error:
            # A driver that was reloaded, or a GPU that came back, is found by beginning anew.
            self._end()
            return DriverSeen(error=str(error))
        return DriverSeen(gpus=gpus, now_ns=clock.boottime_ns())

    def _begin(self) -> None:
        self._nvml.nvmlInit()
        self._open = True
        self._handles = [self._nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in self._gpu_uuids]
        for uuid, handle in zip(self._gpu_uuids, self._handles, strict=True):
            index = self._nvml.nvmlDeviceGetIndex(handle)
            self._names[uuid] = f"GPU {index} ({_text(self._nvml.nvmlDeviceGetName(handle))})"
        self._events = self._optional(self._nvml.nvmlEventSetCreate, None)
        for handle in self._handles if self._events is not None else []:
            kinds = self._optional(lambda: self._nvml.nvmlDeviceGetSupportedEventTypes(handle), 0)  # noqa: B023
            wanted = kinds & self._nvml.nvmlEventTypeXidCriticalError
            if wanted:
                self._nvml.nvmlDeviceRegisterEvents(handle, wanted, self._events)

    def _end(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(self._nvml.NVMLError):
                if self._events is not None:
                    self._nvml.nvmlEventSetFree(self._events)
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._handles, self._events = [], None

    def _xids(self) -> dict[str, list[int]]:
        """XID errors since the last look, by the GPU's UUID."""
        found: dict[str, list[int]] = {}
        for _ in range(MOST_EVENTS if self._events is not None else 0):
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
            except self._nvml.NVMLError as error:
                if error.value in (self._nvml.NVML_ERROR_TIMEOUT, *self._absent):
                    break
                raise
            uuid = _text(self._nvml.nvmlDeviceGetUUID(event.device))
            found.setdefault(uuid, []).append(int(event.eventData))
        return found

    def _gpu(self, uuid: str, handle: Any, xids: dict[str, list[int]]) -> GpuSeen:
        nvml = self._nvml
        uncorrected, volatile = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        # Corrected and uncorrected rows, whether a remapping waits for a reset, and whether one has failed.
        rows = self._optional(lambda: nvml.nvmlDeviceGetRemappedRows(handle), (0, 0, 0, 0))
        retiring = self._optional(lambda: nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle), 0)
        return GpuSeen(
            name=self._names[uuid],
            vram_bytes=nvml.nvmlDeviceGetMemoryInfo(handle).total,
            xids=tuple(xids.get(uuid, ())),
            uncorrectable_errors=self._optional(
                lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, uncorrected, volatile), 0
            ),
            repair_pending=bool(retiring or rows[2]),
            repair_failed=bool(rows[3]),
            holders=self._holders(handle),
        )

    def _holders(self, handle: Any) -> tuple[Holder, ...]:
        found = []
        processes: list[Any] = self._optional(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(handle), [])
        for process in processes:
            program = sweep.stranger(process.pid)
            if program:
                # Where NVML may not tell how much it is, there is nothing to go by.
                found.append(Holder(process.pid, program, process.usedGpuMemory or 0))
        return tuple(sorted(found, key=lambda one: one.pid))

    def _optional(self, ask: Callable[[], T], absent: T) -> T:
        """What NVML answers; `absent` where the GPU or the driver has no such thing. Raises NVMLError otherwise."""
        try:
            return ask()
        except self._nvml.NVMLError as error:
            if error.value not in self._absent:
                raise
            return absent


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
