"""The real trainer in two processes on the CPU: `python -m tests.support.two_process_trainer --control-fd N`.

As with two GPUs, but for the device: `devices.start` is what GPUs are started with as well.
"""

import os
import sys

from lightning.fabric import Fabric

from runner_agent.trainer import __main__, devices
from runner_agent.trainer.settings import Settings


def _prepare(simulated: bool, gpu_uuids: tuple[str, ...], settings: Settings) -> Fabric:
    return devices.start("cpu", 2, settings, ())


if __name__ == "__main__":
    devices.prepare = _prepare
    __main__.main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
