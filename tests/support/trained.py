"""Attempts in the test's process: the whole training without its keeper."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.trainer import attempt
from runner_agent.trainer.control import Control, Release


class Trained:
    """One attempt in this process, and what it told."""

    def __init__(
        self, attempts: Path, attempt_id: str, given: session_pb2.Assignment, stopped: Callable[[], bool] = bool
    ) -> None:
        self.attempt_id, self.directory = attempt_id, attempts / attempt_id
        self.directory.mkdir(exist_ok=True)
        text = json_format.MessageToJson(given, preserving_proto_field_name=True)
        (self.directory / "assignment.json").write_text(text)
        descriptor = os.open(self.directory / "control", os.O_WRONLY | os.O_CREAT)
        attempt.run(Release(attempt_id, "j1", self.directory, True, ("GPU-0",)), Control(descriptor), stopped)
        os.close(descriptor)
        self.events = [json.loads(line) for line in (self.directory / "control").read_text().splitlines()]

    @property
    def ended(self) -> dict[str, Any]:
        return dict(self.events[-1])

    def of(self, event: str) -> list[dict[str, Any]]:
        return [told for told in self.events if told["event"] == event]

    def checkpoint(self, step: int) -> dict[str, Any]:
        found = [told["checkpoint"] for told in self.of("checkpoint")]
        return next(one for one in found if one["step"] == step)

    def measured(self, after: int = 0) -> list[dict[str, Any]]:
        """Points and evaluations behind a step, without their wall-clock times."""
        spool = (self.directory / "spool" / "trainer.jsonl").read_text().splitlines()
        records = [{key: value for key, value in json.loads(line).items() if key != "at_ms"} for line in spool]
        return [one for one in records if next(iter(one.values())).get("step", 0) > after]

    def losses(self) -> list[float]:
        """Of the optimiser steps, in order."""
        values = [one["points"]["values"] for one in self.measured() if "points" in one]
        return [float(value["train/loss"]) for value in values if "train/loss" in value]

    def files(self) -> set[str]:
        return {path.name for path in (self.directory / "checkpoints").glob("*.safetensors")}


def again(
    given: session_pb2.Assignment, earlier: Trained, step: int, *, trained_ms: int = 1000, sha256: str | None = None
) -> session_pb2.Assignment:
    """The assignment of the attempt that goes on from a checkpoint of an earlier one."""
    saved = earlier.checkpoint(step)
    repeated = session_pb2.Assignment()
    repeated.CopyFrom(given)
    repeated.spec.resume_from.CopyFrom(
        training_pb2.ResumeFrom(
            trained_ms=trained_ms,
            attempt_id=earlier.attempt_id,
            checkpoint=saved["name"],
            step=step,
            sha256=saved["sha256"] if sha256 is None else sha256,
        )
    )
    return repeated
