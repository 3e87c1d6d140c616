"""The devices of a training: the runner's GPUs, or the CPU where they are simulated. Never silently the CPU."""

import os

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from runner_agent.trainer.failures import InfrastructureFailure

# For what stays on the CPU while a GPU trains: gathering batches.
MAX_CPU_THREADS = 4


def use_one_thread() -> None:
    """Fix torch to one CPU thread, which makes a training on the CPU repeatable on every box.

    A second thread trains the catalogue's small model a third faster on an idle box, and ten times slower where
    another process wants the core: OpenMP's threads spin while they wait for each other.
    """
    torch.set_num_threads(1)


def prepare(simulated: bool, gpu_uuids: tuple[str, ...]) -> Fabric:
    """Lightning on the runner's devices. Called once, before anything touches CUDA.

    Raises InfrastructureFailure where torch cannot use the GPUs.
    """
    if simulated:
        return Fabric(accelerator="cpu", devices=1)
    torch.set_num_threads(min(len(os.sched_getaffinity(0)), MAX_CPU_THREADS))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu_uuids)
    _require_gpus(len(gpu_uuids))
    torch.set_float32_matmul_precision("high")
    strategy = "ddp" if len(gpu_uuids) > 1 else "auto"
    # Named, so that variables of a cluster's scheduler on the box are not taken for our own.
    fabric = Fabric(accelerator="cuda", devices=len(gpu_uuids), strategy=strategy, plugins=LightningEnvironment())
    fabric.launch()
    return fabric


def _require_gpus(wanted: int) -> None:
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted and usable == wanted:
        return
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA support"
    raise InfrastructureFailure(
        f"torch {torch.__version__} (built with {cuda}; {_driver()}) can use {usable} of the runner's {wanted} GPUs; "
        "install a build of torch that fits the driver"
    )


def _driver() -> str:
    import pynvml

    try:
        pynvml.nvmlInit()
        return f"NVIDIA driver {pynvml.nvmlSystemGetDriverVersion()}"
    except pynvml.NVMLError as error:
        return f"NVIDIA driver not found: {error}"
