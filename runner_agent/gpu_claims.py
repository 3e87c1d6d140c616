"""Each GPU of a box belongs to one runner: compared by UUID when a runner is installed, and claimed while it runs.

The comparison sees this user's runners; the claim, a name that the kernel gives to one process of the box at a time and
takes back when that process ends, sees everybody's. Standard library only: the launcher uses it.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner_agent.config import BoxConfig, StateFolder
from runner_agent.errors import BoxError

MOST_QUESTIONS = 16


class GpuTaken(BoxError):
    """A GPU of the box belongs to at most one runner."""

    def __init__(self, gpu: str, holder: str, way_out: str) -> None:
        super().__init__(f"the GPU {gpu} belongs to {holder} already; {way_out}")


def other_runners(folder: StateFolder, installed: Iterable[StateFolder]) -> list[BoxConfig]:
    """Configurations of the runners beside the one in `folder`; damaged ones hold nothing."""
    found = []
    for other in installed:
        if other.root.resolve() != folder.root.resolve():
            with contextlib.suppress(BoxError):
                found.append(other.load())
    return found


def check_disjoint(wanted: Sequence[str], others: Iterable[BoxConfig], label: dict[str, str]) -> None:
    """Raises GpuTaken where one of the UUIDs is another runner's. Pure.

    `label` tells how to name the box's GPUs: UUID → for example `1 (NVIDIA L4, GPU-…)`; what it lacks is named by UUID.
    Without it the refusal offers no free ones.
    """
    holders = {uuid: other.name for other in others if not other.simulate_gpus for uuid in other.gpu_uuids}
    for uuid in wanted:
        if uuid in holders:
            free = [number.split(" ", 1)[0] for known, number in label.items() if known not in holders]
            way_out = "uninstall one of the two, and install it with other --gpus"
            if label:
                choice = f"choose --gpus {','.join(free)}" if free else "no GPU of this box is free"
                way_out = f"{choice}, or uninstall that runner"
            raise GpuTaken(label.get(uuid, uuid), f"the runner {holders[uuid]}", way_out)


class Claims:
    """The claims of one running runner; they end with `release`, or with the process."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def take(self, uuids: Sequence[str], way_out: str) -> None:
        """Raises GpuTaken, and claims nothing, where another process of the box has claimed one of them."""
        for uuid in uuids:
            claim = socket.socket(socket.AF_UNIX)
            self._sockets.append(claim)
            try:
                claim.bind(_address(uuid))
                # Who asks for the holder is told this process's pid by the kernel.
                claim.listen(MOST_QUESTIONS)
                claim.setblocking(False)
            except OSError:
                holder = _holder(uuid)
                self.release()
                raise GpuTaken(uuid, holder, way_out) from None

    def clear_questions(self) -> None:
        """To be called now and then, so that there is room for the next question."""
        for claim in self._sockets:
            for _ in range(MOST_QUESTIONS):
                try:
                    claim.accept()[0].close()
                except OSError:
                    break

    def release(self) -> None:
        for claim in self._sockets:
            claim.close()
        self._sockets.clear()


def check_unclaimed(uuids: Sequence[str]) -> None:
    """Raises GpuTaken where a runner that runs on this box, anybody's, has claimed one of the GPUs."""
    claims = Claims()
    claims.take(uuids, "choose others with --gpus, or uninstall that runner")
    claims.release()


def _address(uuid: str) -> bytes:
    # Of the abstract kind: no file, and gone with its process.
    return b"\0tether-runner/gpu/" + uuid.encode()


def _holder(uuid: str) -> str:
    """Who has claimed it, in words."""
    with contextlib.suppress(OSError, struct.error), socket.socket(socket.AF_UNIX) as question:
        question.setblocking(False)
        question.connect(_address(uuid))
        pid, _, _ = struct.unpack("3i", question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"--state-dir" in words:
            folder = os.fsdecode(words[words.index(b"--state-dir") + 1])
            return f"the runner in {folder} (pid {pid})"
        return f"the process {pid}"
    return "another runner of this box"
