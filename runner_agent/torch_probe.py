"""Asks, in a process of its own, whether torch can use the runner's GPUs; the agent itself imports no torch."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from runner_agent import keeper_client
from runner_agent.health import TorchSeen

# Importing torch takes some seconds, on a busy box many.
TIMEOUT_S = 120.0
# Like a trainer's processes it is one of the runner's own.
MARK = {"TETHER_PAIR": "gpu-check"}


class TorchProbe:
    """`command` is what is asked, with the GPUs' UUIDs behind it."""

    def __init__(self, gpu_uuids: tuple[str, ...], keepers: Path, command: Sequence[str] = ()) -> None:
        """`keepers` is the folder of the keepers' sockets."""
        self._keepers = keepers
        self._command = [*(command or (sys.executable, "-P", "-m", "runner_agent.trainer.gpu_check")), *gpu_uuids]

    def look(self) -> TorchSeen | None:
        """Takes seconds, up to TIMEOUT_S. None while a training runs: it uses the GPUs, and is not to be disturbed."""
        if keeper_client.held(self._keepers):
            return None
        try:
            done = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, **MARK},
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return TorchSeen(
                f"torch did not answer within {TIMEOUT_S:g} s whether it can use the GPUs; look at the box"
            )
        except OSError as error:
            return TorchSeen(f"it cannot be seen whether torch can use the GPUs ({error.strerror}); look at the box")
        try:
            return TorchSeen(str(json.loads(done.stdout)["problem"]))
        except (ValueError, KeyError, TypeError):
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return TorchSeen(f"torch cannot be used ({lines[-1][:300]}); install a build of torch that fits the driver")
