"""What there is to look at on the page: a box that trains the digits for real, and a training of it with everything."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from protos.scheduler.v1 import job_pb2
from protos.training.v1.training_pb2 import AdvancedEvaluation, Limits
from tests.support.box_process import RUNNER
from tests.support.platform import SharedPlatform
from tests.support.stack import stack_on


@dataclass
class Scene:
    platform: SharedPlatform
    folder: Path
    # A training that has finished, with previews, matrices, checkpoints and logs; empty: nobody has run one yet.
    job_id: str = ""
    # One to compare it with.
    other_job_id: str = ""
    workflow_id: str = ""
    runner_id: str = ""
    # Environment of the box whose runner a person has added; it goes on until the end of all tests.
    box: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def with_a_training(self) -> AsyncIterator[None]:
        """Runs one, on a box of its own, where that has not been done yet."""
        if self.job_id:
            yield
            return
        async with stack_on(self.platform, self.folder, "box-of-the-scene") as stack:
            job = await stack.submit(
                name="digits to look at",
                limits=Limits(epochs=3),
                advanced_evaluation=AdvancedEvaluation(enabled=True, confusion_matrix=True),
            )
            done = await stack.over(job.job_id)
            assert done.state == job_pb2.JOB_STATE_FINISHED, done.message
            self.job_id, self.runner_id = done.job_id, done.runner_id
            yield


@pytest.fixture(scope="session")
def scene(page_platform: SharedPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(page_platform, tmp_path_factory.mktemp("scene"))
    yield made
    if made.box:
        subprocess.run([RUNNER, "stop", "--yes"], env={**os.environ, **made.box}, timeout=60, check=True)
