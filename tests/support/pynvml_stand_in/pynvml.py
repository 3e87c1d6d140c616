"""Stands in for NVIDIA's library, in every process that has this folder on PYTHONPATH: a box with four GPUs.

Tells the inventory; whatever else it is asked it answers as the real library does where there is no driver.
`TETHER_TEST_GPUS` sets another number of GPUs, `TETHER_TEST_BOX` is a part of their UUIDs.
"""

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import SimpleNamespace

_found = PathFinder.find_spec("pynvml", [one for one in sys.path if Path(one) != Path(__file__).parent])
assert _found is not None
assert _found.origin is not None
exec(compile(Path(_found.origin).read_text(), _found.origin, "exec"))


def nvmlInit() -> None:
    if not nvmlDeviceGetCount():
        raise NVMLError(NVML_ERROR_DRIVER_NOT_LOADED)  # type: ignore[name-defined]  # noqa: F821


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return "570.0"


def nvmlDeviceGetCount() -> int:
    return int(os.environ.get("TETHER_TEST_GPUS", "4"))


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetUUID(handle: int) -> str:
    return f"GPU-{os.environ.get('TETHER_TEST_BOX', 'box')}-{handle}"


def nvmlDeviceGetName(handle: int) -> str:
    return "NVIDIA L4"


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:
    return SimpleNamespace(total=24 * 1024**3, used=0)


def nvmlDeviceGetCudaComputeCapability(handle: int) -> tuple[int, int]:
    return 8, 9
