"""An NVML library without a GPU: `pynvml` with the answers that a test gives. Errors are pynvml's own."""

from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 1024**3


class FakeNvml:
    """One GPU, `GPU-1`. Whatever is not answered here is pynvml's: constants, errors."""

    NVMLError = pynvml.NVMLError

    def __init__(self) -> None:
        self.opened = 0
        # What the next calls raise, by the function's name: an NVML error code.
        self.failing: dict[str, int] = {}
        self.xids: list[int] = []
        self.uncorrectable = 0
        self.retiring = 0
        self.rows = (0, 0, 0, 0)
        self.processes: list[Any] = []
        self.listening = False

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)

    def _answer(self, name: str, answer: Any) -> Any:
        if name in self.failing:
            raise pynvml.NVMLError(self.failing[name])
        return answer

    def nvmlInit(self) -> None:
        self._answer("nvmlInit", None)
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1
        self.listening = False

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return str(self._answer("nvmlDeviceGetHandleByUUID", uuid))

    def nvmlDeviceGetIndex(self, _handle: str) -> int:
        return 0

    def nvmlDeviceGetName(self, _handle: str) -> str:
        return "NVIDIA A10G"

    def nvmlDeviceGetUUID(self, _handle: str) -> str:
        return "GPU-1"

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> Any:
        return self._answer("nvmlDeviceGetMemoryInfo", SimpleNamespace(total=24 * GIB, used=0))

    def nvmlEventSetCreate(self) -> str:
        return str(self._answer("nvmlEventSetCreate", "events"))

    def nvmlEventSetFree(self, _events: str) -> None:
        pass

    def nvmlDeviceGetSupportedEventTypes(self, _handle: str) -> int:
        return pynvml.nvmlEventTypeXidCriticalError | 1

    def nvmlDeviceRegisterEvents(self, _handle: str, kinds: int, _events: str) -> None:
        assert kinds == pynvml.nvmlEventTypeXidCriticalError
        self.listening = True

    def nvmlEventSetWait_v2(self, _events: str, timeout_ms: int) -> Any:
        assert timeout_ms == 0
        if not (self.xids and self.listening):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        return SimpleNamespace(device="GPU-1", eventData=self.xids.pop(0))

    def nvmlDeviceGetTotalEccErrors(self, _handle: str, kind: int, counter: int) -> int:
        assert (kind, counter) == (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
        return int(self._answer("nvmlDeviceGetTotalEccErrors", self.uncorrectable))

    def nvmlDeviceGetRetiredPagesPendingStatus(self, _handle: str) -> int:
        return int(self._answer("nvmlDeviceGetRetiredPagesPendingStatus", self.retiring))

    def nvmlDeviceGetRemappedRows(self, _handle: str) -> tuple[int, int, int, int]:
        answer: tuple[int, int, int, int] = self._answer("nvmlDeviceGetRemappedRows", self.rows)
        return answer

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: str) -> list[Any]:
        return list(self._answer("nvmlDeviceGetComputeRunningProcesses", self.processes))
