"""What the box has: read from NVML and the kernel, or made up with `--simulate-gpus`, never typed."""

import contextlib
import platform
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pynvml
import structlog
from google.protobuf.message import DecodeError

from protos.common.v1 import inventory_pb2
from runner_agent import files
from runner_agent.errors import BoxError
from runner_agent.threads import in_time

log = structlog.get_logger()

GIB = 1024**3
MOST_SIMULATED_GPUS = 64
TAKE_TIMEOUT_S = 10.0
# Memory of the GPUs that can be simulated; NVML's product names.
SIMULATED_VRAM_GIB = {
    "NVIDIA T4": 16,
    "NVIDIA P100": 16,
    "NVIDIA V100": 16,
    "NVIDIA L4": 24,
    "NVIDIA A10G": 24,
    "NVIDIA GeForce RTX 3090": 24,
    "NVIDIA GeForce RTX 4090": 24,
    "NVIDIA L40S": 48,
    "NVIDIA A100": 80,
    "NVIDIA H100": 80,
    "NVIDIA H200": 141,
}


class NoUsableGpu(BoxError):
    """A runner needs an NVIDIA GPU that its driver can see."""


def take(folder: Path, *, gpu_uuids: tuple[str, ...], simulate: str, installation_id: str) -> inventory_pb2.Inventory:
    """The inventory of the runner whose state lies in `folder`.

    Raises NoUsableGpu where NVML finds none of `gpu_uuids` (empty: none at all), and BoxError for a wrong `simulate`.
    """
    disk = shutil.disk_usage(folder)
    inventory = inventory_pb2.Inventory(
        cpu_ram_bytes=psutil.virtual_memory().total,
        cpu_cores=psutil.cpu_count() or 1,
        disk_total_bytes=disk.total,
        disk_free_bytes=disk.free,
        hostname=socket.gethostname(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
    )
    if simulate:
        inventory.simulated = True
        inventory.gpus.extend(simulated_gpus(simulate, installation_id))
    else:
        gpus, inventory.driver_version = real_gpus()
        chosen = [gpu for gpu in gpus if not gpu_uuids or gpu.uuid in gpu_uuids]
        missing = set(gpu_uuids) - {gpu.uuid for gpu in chosen}
        if missing:
            raise NoUsableGpu(
                f"the GPU {', '.join(sorted(missing))} of this runner is not in the box any more; "
                "put it back, or install the runner again"
            )
        inventory.gpus.extend(chosen)
    return inventory


def taken_or_remembered(take_now: Callable[[], inventory_pb2.Inventory], path: Path) -> inventory_pb2.Inventory:
    """What `take_now` finds within TAKE_TIMEOUT_S, which is kept in `path`; otherwise what was kept there.

    So that a driver that fails or hangs keeps no agent from looking after a training; health suspends the runner then.
    Raises BoxError where nothing was kept.
    """
    try:
        found = in_time(take_now, TAKE_TIMEOUT_S)
    except (BoxError, TimeoutError) as error:
        kept = inventory_pb2.Inventory()
        try:
            kept.ParseFromString(path.read_bytes())
        except (OSError, DecodeError):
            raise BoxError(str(error)) from None
        log.warning("the inventory cannot be taken; the last one serves", error=str(error))
        return kept
    with contextlib.suppress(OSError):
        files.replace(path, found.SerializeToString(), durable=False)
    return found


def simulated_gpus(spec: str, installation_id: str) -> list[inventory_pb2.Gpu]:
    """GPUs of a spec such as `NVIDIA A10G:2`. Raises BoxError for a name or number that cannot be simulated."""
    matched = re.fullmatch(r"\s*(?P<type>[^:]+?)\s*(?::\s*(?P<number>\d+)\s*)?", spec)
    if matched is None:
        raise BoxError(f'cannot simulate {spec!r}; write a type and a number, for example "NVIDIA A10G:2"')
    kind, number = matched["type"], int(matched["number"] or 1)
    if kind not in SIMULATED_VRAM_GIB:
        raise BoxError(f"cannot simulate a {kind!r}; choose one of: {', '.join(SIMULATED_VRAM_GIB)}")
    if not 1 <= number <= MOST_SIMULATED_GPUS:
        raise BoxError(f"cannot simulate {number} GPUs; choose 1 to {MOST_SIMULATED_GPUS}")
    vram_bytes = SIMULATED_VRAM_GIB[kind] * GIB
    return [
        inventory_pb2.Gpu(uuid=f"SIMULATED-{installation_id[:8]}-{index}", type=kind, vram_bytes=vram_bytes)
        for index in range(number)
    ]


def real_gpus() -> tuple[list[inventory_pb2.Gpu], str]:
    """All NVIDIA GPUs of the box and the driver's version. Raises NoUsableGpu where there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoUsableGpu(
            f"this box has no NVIDIA GPU that can be used ({error}); install the NVIDIA driver so that `nvidia-smi` "
            'lists it, or try the platform out with --simulate-gpus "NVIDIA A10G:1"'
        ) from None
    try:
        gpus = [_gpu(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(pynvml.nvmlDeviceGetCount())]
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError as error:
        raise NoUsableGpu(f"the NVIDIA driver does not answer ({error}); see whether `nvidia-smi` works") from None
    finally:
        pynvml.nvmlShutdown()
    if not gpus:
        raise NoUsableGpu("the NVIDIA driver is there but lists no GPU; see whether `nvidia-smi` shows one")
    return gpus, driver


def uuids_of(indexes: str) -> tuple[str, ...]:
    """UUIDs of GPUs given by number, for example `0,1`. Raises BoxError for a number that the box does not have."""
    gpus, _ = real_gpus()
    try:
        wanted = sorted({int(part) for part in indexes.split(",")})
    except ValueError:
        raise BoxError(f"--gpus {indexes!r} is not a list of numbers; write for example --gpus 0,1") from None
    if wanted[0] < 0 or wanted[-1] >= len(gpus):
        raise BoxError(f"--gpus {indexes}: this box has the GPUs 0 to {len(gpus) - 1}")
    return tuple(gpus[index].uuid for index in wanted)


def _gpu(handle: Any) -> inventory_pb2.Gpu:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return inventory_pb2.Gpu(
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        type=_text(pynvml.nvmlDeviceGetName(handle)),
        vram_bytes=pynvml.nvmlDeviceGetMemoryInfo(handle).total,
        compute_capability=f"{major}.{minor}",
    )


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
