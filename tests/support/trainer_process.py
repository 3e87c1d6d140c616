"""A real trainer process with the test in its keeper's place."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf import json_format

from protos.metrics.v1 import ingest_pb2
from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2

RESNET_TINY = '{"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1], "layer_type": "basic"}'


def assignment(location: Path, epochs: int = 3) -> session_pb2.Assignment:
    """A training on an image folder; the caller changes what its test is about."""
    spec = training_pb2.TrainingSpec(
        dataset=training_pb2.Dataset(
            dataset_id="d1", name="digits", location=str(location), format=training_pb2.DATASET_FORMAT_IMAGE_FOLDER
        ),
        architecture=training_pb2.Architecture(
            architecture_id="resnet-tiny",
            task=training_pb2.TASK_CLASSIFICATION,
            family="resnet",
            config_json=RESNET_TINY,
            defaults=training_pb2.Hyperparameters(
                batch_size=64, image_size=32, learning_rate=3e-3, weight_decay=0.05, validation_share=0.2
            ),
        ),
        limits=training_pb2.Limits(epochs=epochs),
    )
    return session_pb2.Assignment(attempt_id="a1", job_id="j1", spec=spec, window_ms=900_000)


class TrainerProcess:
    """A warm trainer; `around` is a command that runs its own. Leaving the context kills its whole process group."""

    def __init__(self, directory: Path, module: str = "runner_agent.trainer", around: Sequence[str] = ()) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        reader, writer = os.pipe()
        with (directory / "stdout").open("wb") as output, (directory / "stderr").open("wb") as errors:
            self.process = subprocess.Popen(
                [*around, sys.executable, "-m", module, "--control-fd", str(writer)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                pass_fds=[writer],
                start_new_session=True,
            )
        os.close(writer)
        self.events: list[dict[str, Any]] = []
        self._arrived: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._reader.start()

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor) as lines:
            for line in lines:
                self._arrived.put(json.loads(line))
        self._arrived.put(None)

    def __enter__(self) -> "TrainerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)
        self._reader.join(timeout=10)
        if self.process.stdin is not None:
            self.process.stdin.close()

    def until(self, event: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The next event of this kind; those before it are kept in `events`."""
        while True:
            told = self._arrived.get(timeout=timeout_s)
            assert told is not None, f"the trainer ended without {event}: {self.errors()}"
            self.events.append(told)
            if told["event"] == event:
                return told

    def release(self, attempt: session_pb2.Assignment, *, simulated: bool = True) -> None:
        """Hand it an attempt, as the keeper does."""
        text = json_format.MessageToJson(attempt, preserving_proto_field_name=True)
        (self.directory / "assignment.json").write_text(text)
        line = {
            "attempt_id": attempt.attempt_id,
            "job_id": attempt.job_id,
            "directory": str(self.directory),
            "simulated": simulated,
            "gpu_uuids": ["GPU-0"],
        }
        assert self.process.stdin is not None
        self.process.stdin.write((json.dumps(line) + "\n").encode())
        self.process.stdin.flush()

    def told(self, event: str) -> list[dict[str, Any]]:
        """Events of this kind that were seen so far."""
        return [told for told in self.events if told["event"] == event]

    def records(self) -> list[ingest_pb2.Record]:
        """The spool as the box's agent reads it."""
        lines = (self.directory / "spool" / "trainer.jsonl").read_text().splitlines()
        return [json_format.Parse(line, ingest_pb2.Record()) for line in lines]

    def output(self) -> str:
        """Standard output so far."""
        return (self.directory / "stdout").read_text()

    def errors(self) -> str:
        """Standard error so far."""
        return (self.directory / "stderr").read_text()
