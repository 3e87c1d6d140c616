"""What `tether datasets check` prints of a report."""

import io

from rich.console import Console

from protos.training.v1 import training_pb2
from services.cli.datasets import FormatName, _number, _report


def printed(report: training_pb2.DatasetReport) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(_report(report))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def detection() -> training_pb2.DatasetReport:
    return training_pb2.DatasetReport(
        usable=True,
        images=120,
        bytes=2**20,
        task=training_pb2.TASK_DETECTION,
        classes=[
            training_pb2.ClassCount(name="cat", images=100, objects=400),
            training_pb2.ClassCount(name="dog", images=50, objects=100),
        ],
        train_images=100,
        validation_images=20,
        min_width=64,
        max_width=640,
        min_height=48,
        max_height=480,
        problems=[training_pb2.DatasetProblem(path="labels/7.txt", line=3, message="it has 4 numbers")],
        problem_count=1,
    )


def test_a_detection_is_shown_with_its_objects_and_their_balance() -> None:
    lines = [line.rstrip() for line in printed(detection()).splitlines()]
    assert "task         detection" in lines
    assert "images       120 in 2 classes, 1 MiB" in lines
    assert "own folders  100 to train on, 20 to validate on" in lines
    assert "pixels       64 × 48 to 640 × 480" in lines
    cat, dog = (next(line for line in lines if line.startswith(name)).split() for name in ("cat", "dog"))
    assert (cat[1:3], dog[1:3]) == (["100", "400"], ["50", "100"])
    assert len(cat[3]) >= 3 * len(dog[3]), "the bars are of the objects"


def test_a_problem_is_shown_with_its_file_and_line() -> None:
    assert "labels/7.txt:3" in printed(detection())
    whole = detection()
    whole.problems[0].line = 0
    assert "labels/7.txt:" not in printed(whole)


def test_a_report_of_an_earlier_agent_is_shown_as_before() -> None:
    """It knows neither tasks nor sizes."""
    classes = [training_pb2.ClassCount(name="cat", images=3), training_pb2.ClassCount(name="dog", images=4)]
    shown = printed(training_pb2.DatasetReport(usable=True, images=7, classes=classes))
    assert "task" not in shown
    assert "pixels" not in shown
    assert next(line for line in shown.splitlines() if line.startswith("dog")).split()[:2] == ["dog", "4"]


def test_every_format_of_the_protocol_has_a_name_on_the_command_line() -> None:
    known = {_number(name) for name in FormatName}
    assert known == set(training_pb2.DatasetFormat.values()) - {training_pb2.DATASET_FORMAT_UNSPECIFIED}
