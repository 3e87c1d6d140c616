"""Looks at a dataset in a process of its own, so that a broken image or a slow disk cannot hurt the agent."""

import sys
import tempfile
from pathlib import Path

from google.protobuf.json_format import Parse, ParseError

from protos.training.v1 import training_pb2
from runner_agent import side_process

TIME_LIMIT_S = 100.0
# The check answers with what it has seen by its limit; one that does not answer at all is ended after this.
KILL_AFTER_S = 120.0
FORMATS = {
    training_pb2.DATASET_FORMAT_UNSPECIFIED: "image-folder",
    training_pb2.DATASET_FORMAT_IMAGE_FOLDER: "image-folder",
    training_pb2.DATASET_FORMAT_COCO: "coco",
    training_pb2.DATASET_FORMAT_YOLO: "yolo",
    training_pb2.DATASET_FORMAT_MASK_FOLDER: "mask-folder",
}


async def look(
    dataset: training_pb2.Dataset, state: Path, time_limit_s: float = TIME_LIMIT_S
) -> training_pb2.DatasetReport:
    """The report of a check by the runner with this state folder.

    Where none could be made, a report that says why; never raises for a bad dataset.
    """
    name = FORMATS.get(dataset.format)
    if name is None:
        return failed("this version of the agent does not know the dataset's format; upgrade the agent")
    with tempfile.TemporaryDirectory(prefix="tether-check-") as folder:
        output = Path(folder) / "report.json"
        # A location that begins with a dash is not an option.
        options = ["--format", name, "--output", str(output), "--time-limit-s", str(time_limit_s)]
        options += ["--state-dir", str(state)]
        command = [sys.executable, "-P", "-m", "runner_agent.trainer.check", *options, "--", dataset.location]
        code = await side_process.run(command, time_limit_s + KILL_AFTER_S - TIME_LIMIT_S)
        try:
            return Parse(output.read_bytes(), training_pb2.DatasetReport(), ignore_unknown_fields=True)
        except (OSError, ParseError):
            how = "took too long" if code is None else f"ended with code {code}"
            return failed(f"the check of {dataset.location!r} {how} on the box; see `tether-runner logs`")


def failed(message: str) -> training_pb2.DatasetReport:
    """A report of a check that could not be made."""
    problem = training_pb2.DatasetProblem(message=message, fatal=True)
    return training_pb2.DatasetReport(usable=False, problems=[problem], problem_count=1)
