"""What the trainer and its keeper say to each other: JSON lines, one release down, facts up."""

import json
import os
import select
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from runner_agent.losses import Loss
from runner_agent.trainer.spool import numbers

_MAX_RELEASE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Release:
    """The keeper's word to begin."""

    attempt_id: str
    job_id: str
    # The attempt's folder.
    directory: Path
    # True where the runner only pretends to have GPUs: the training runs on the CPU.
    simulated: bool
    gpu_uuids: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> "Release":
        """Raises ValueError, KeyError or TypeError if the line is not a release."""
        fields = json.loads(line)
        return cls(
            attempt_id=fields["attempt_id"],
            job_id=fields["job_id"],
            directory=Path(fields["directory"]),
            simulated=bool(fields["simulated"]),
            gpu_uuids=tuple(fields["gpu_uuids"]),
        )


class Control:
    """The way up to the keeper. A keeper that is gone ends this process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, event: str, **fields: Any) -> None:
        """Tell one fact, whole."""
        line = (json.dumps({"event": event, **fields}, allow_nan=False) + "\n").encode()
        try:
            # A signal can cut a write to a pipe short.
            while line:
                line = line[os.write(self._descriptor, line) :]
        except BrokenPipeError:
            os._exit(1)

    def say_evaluation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell the result of an evaluation."""
        self.say("evaluation", step=step, epoch=epoch, metrics=numbers(metrics))

    def say_lost(self, loss: Loss) -> None:
        """Tell that records were dropped for lack of room; the keeper counts them for the log."""
        self.say("dropped", **loss.as_json())


class StopRequest:
    """SIGTERM, turned into a question that loops ask. Made on the main thread."""

    def __init__(self) -> None:
        self._requested = False
        self.wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        signal.signal(signal.SIGTERM, self._request)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self._requested = True

    def __call__(self) -> bool:
        """True once a stop was asked for; it is never taken back."""
        return self._requested


def wait_for_release(stdin: int, stop: StopRequest) -> str | None:
    """The release line, or None where the keeper went away or asked to stop before it gave one."""
    received = b""
    while b"\n" not in received and len(received) < _MAX_RELEASE_BYTES:
        ready, _, _ = select.select([stdin, stop.wake_reader], [], [])
        if stdin not in ready:
            # A stop that arrives together with the release belongs to the attempt, which then tells its end.
            return None
        part = os.read(stdin, 65536)
        if not part:
            return None
        received += part
    return received.partition(b"\n")[0].decode("utf-8", "replace")


def exit_with(stdin: int) -> None:
    """From now on the end of `stdin`, which is the keeper's death, ends this process at once."""

    def watch() -> None:
        while os.read(stdin, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="keeper-watch", daemon=True).start()
