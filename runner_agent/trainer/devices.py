"""The devices of a training: the runner's GPUs, or the CPU where they are simulated. Never silently the CPU."""

import logging
import os
import re
from collections.abc import Sequence

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment, Precision
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy

from protos.training.v1 import training_pb2
from runner_agent.trainer import precision
from runner_agent.trainer.failures import InfrastructureFailure
from runner_agent.trainer.settings import Settings

# For what stays on the CPU while a GPU trains: gathering batches.
MAX_CPU_THREADS = 4
_WAY_OUT = "install a build of torch that fits the driver and the GPU"
_ARCHITECTURE = re.compile(r"(?P<kind>sm|compute)_(?P<number>\d+)(?P<letter>[a-z]?)")


def use_one_thread() -> None:
    """Fix torch to one CPU thread, which makes a training on the CPU repeatable on every box.

    A second thread trains the catalogue's small model a third faster on an idle box, and ten times slower where
    another process wants the core: OpenMP's threads spin while they wait for each other.
    """
    torch.set_num_threads(1)


def prepare(simulated: bool, gpu_uuids: tuple[str, ...], settings: Settings) -> Fabric:
    """Lightning on the runner's devices, with a process for each. Called once, before anything touches CUDA.

    Raises InfrastructureFailure where torch cannot use the GPUs, ConfigurationFailure for a precision that they lack.
    """
    if simulated:
        return start("cpu", 1, settings, ())
    torch.set_num_threads(min(len(os.sched_getaffinity(0)), MAX_CPU_THREADS))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu_uuids)
    _require_gpus(len(gpu_uuids))
    torch.set_float32_matmul_precision("high")
    count = len(gpu_uuids)
    return start("cuda", count, settings, [torch.cuda.get_device_capability(index) for index in range(count)])


def start(accelerator: str, devices: int, settings: Settings, capabilities: Sequence[tuple[int, int]]) -> Fabric:
    """Fabric in this process, and further processes where there are several devices."""
    strategy: DDPStrategy | str = "auto"
    if devices > 1:
        # A detector leaves weights out of the loss of images without objects.
        strategy = DDPStrategy(find_unused_parameters=settings.task == training_pb2.TASK_DETECTION)
    # The environment is named, so that variables of a cluster's scheduler on the box are not taken for our own.
    plugins: list[Precision | ClusterEnvironment | CheckpointIO] = [LightningEnvironment()]
    plugins.append(precision.plugin(settings.precision, capabilities))
    # What lightning says of its processes is no error of a training, but would be logged as one.
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    fabric = Fabric(accelerator=accelerator, devices=devices, strategy=strategy, plugins=plugins)
    fabric.launch()
    return fabric


def _require_gpus(wanted: int) -> None:
    found = problem(wanted)
    if found is not None:
        raise InfrastructureFailure(found)


def problem(wanted: int) -> str | None:
    """Why torch cannot use the GPUs that this process may see, which should be `wanted`; None where it can.

    One sentence with both versions. Takes memory of each GPU for as long as the process lives.
    """
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not wanted or usable != wanted:
        return f"{_versions()} can use {usable} of the runner's {wanted} GPUs; {_WAY_OUT}"
    built_for = torch.cuda.get_arch_list()
    for index in range(wanted):
        name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
        if not runs_on(capability, built_for):
            shown = f"{capability[0]}.{capability[1]}"
            return f"{_versions()} has no code for {name} (compute capability {shown}); {_WAY_OUT}"
        try:
            torch.ones(1, device=f"cuda:{index}").add_(1).item()
        except torch.OutOfMemoryError:
            # Held by another program, which is told as such.
            continue
        except RuntimeError as error:
            text = " ".join(str(error).split())[:300]
            return f"{_versions()} cannot compute on {name} ({text}); {_WAY_OUT}"
    return None


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether a build of torch for these architectures, such as `sm_80` and `compute_90`, has code for a GPU. Pure.

    Code (`sm`) runs on the same major version from its minor one on; intermediate code (`compute`) on all later ones;
    with a letter behind it (`sm_90a`) on that one alone or, for `f`, its family. https://docs.nvidia.com/cuda/ptx-compiler-api
    """
    for name in built_for:
        matched = _ARCHITECTURE.fullmatch(name)
        if matched is None:
            continue
        number = int(matched["number"])
        target = divmod(number, 10)
        if matched["letter"] == "a":
            fits = capability == target
        elif matched["kind"] == "compute" and not matched["letter"]:
            fits = capability >= target
        else:
            fits = capability[0] == target[0] and capability[1] >= target[1]
        if fits:
            return True
    return not built_for


def _versions() -> str:
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA support"
    return f"torch {torch.__version__} (built with {cuda}; {_driver()})"


def _driver() -> str:
    import pynvml

    try:
        pynvml.nvmlInit()
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        return f"NVIDIA driver {pynvml.nvmlSystemGetDriverVersion()} for CUDA up to {cuda // 1000}.{cuda % 1000 // 10}"
    except pynvml.NVMLError as error:
        return f"NVIDIA driver not found: {error}"
