"""`tether datasets`: names for the images that lie on a box."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protos.scheduler.v1 import workflow_pb2 as pb
from protos.training.v1.training_pb2 import (
    TASK_DETECTION,
    TASK_SEGMENTATION,
    DatasetFormat,
    DatasetProblem,
    DatasetReport,
    Task,
)
from services.cli import completion
from services.cli.connection import connect, new_request_id
from services.cli.output import console, error_console, print_json
from services.cli.parameters import AsJson, DatasetArgument
from services.cli.tables import facts, table
from services.words import format as fmt

# The box reads every image; the platform itself gives up after ten minutes.
_CHECK_DEADLINE_S = 630
_BAR_WIDTH = 30
_MAX_CLASSES, _MAX_PROBLEMS = 40, 20


class FormatName(StrEnum):
    """How a dataset lies on disk."""

    IMAGE_FOLDER = "image-folder"
    COCO = "coco"
    YOLO = "yolo"
    MASK_FOLDER = "mask-folder"


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command("list", epilog="Example: tether datasets list")(list_)
    examples = (
        "Example: tether datasets register digits /data/digits\n\n"
        "Boxes: tether datasets register street s3://bucket/street --format coco"
    )
    group.command("register", epilog=examples)(register_dataset)
    group.command("check", epilog="Example: tether datasets check digits --runner box-1")(check)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the datasets of the workspace."""
    response = connect(context).workflows.ListDatasets(pb.ListDatasetsRequest())
    if as_json:
        print_json(response)
    elif not response.datasets:
        console().print("There is no dataset yet. Name one that lies on a box: tether datasets register NAME /path")
    else:
        made = table("name", "location", "format", "id", keep=("name", "id"))
        for dataset in response.datasets:
            format_ = fmt.words(DatasetFormat, dataset.format, "DATASET_FORMAT_").replace(" ", "-")
            made.add_row(Text(dataset.name, "bold"), Text(dataset.location), format_, Text(dataset.dataset_id, "dim"))
        console().print(made)


def register_dataset(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the dataset, unique in the workspace.")],
    location: Annotated[str, typer.Argument(help="Absolute path on the box, or a URL that the box may read.")],
    format_: Annotated[
        FormatName,
        typer.Option(
            "--format",
            help="How it lies there: image-folder for classification (one folder a class), coco or yolo for detection, "
            "mask-folder for segmentation.",
        ),
    ] = FormatName.IMAGE_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Name a dataset that lies on a box. Nothing is read yet; `tether datasets check` does."""
    response = connect(context).workflows.RegisterDataset(
        pb.RegisterDatasetRequest(request_id=new_request_id(), name=name, location=location, format=_number(format_))
    )
    if as_json:
        print_json(response)
        return
    dataset = response.dataset
    where = escape(dataset.location) + ("" if "://" in dataset.location else " on the box")
    console().print(f"Dataset [bold]{escape(dataset.name)}[/] is {where}.")
    console().print(f"[dim]Look at it: tether datasets check {escape(dataset.name)} --runner RUNNER[/]")


def check(
    context: typer.Context,
    dataset: DatasetArgument,
    runner: Annotated[
        str, typer.Option("--runner", "-r", help="On whose box to look.", autocompletion=completion.runner)
    ],
    as_json: AsJson = False,
) -> None:
    """Look at a dataset on a runner's box, free of charge. The exit code is 1 if a training could not start on it."""
    request = pb.CheckDatasetRequest(dataset_id=dataset, runner_id=runner)
    platform = connect(context)
    with error_console().status(f"{escape(runner)} reads every image of {escape(dataset)}…"):
        response = platform.workflows.CheckDataset(request, timeout=_CHECK_DEADLINE_S)
    if as_json:
        print_json(response)
    else:
        console().print(_report(response.report))
    if not response.report.usable:
        raise typer.Exit(1)


def _number(format_: FormatName) -> DatasetFormat.ValueType:
    return DatasetFormat.Value(f"DATASET_FORMAT_{format_.name}")


def _report(report: DatasetReport) -> Group:
    verdict = Text("✔ usable", "bold green") if report.usable else Text("✘ not usable", "bold red")
    parts = f"{report.train_images:,} to train on, {report.validation_images:,} to validate on"
    about = facts(
        ("verdict", verdict),
        ("task", fmt.words(Task, report.task, "TASK_") if report.task else ""),
        ("images", f"{report.images:,} in {len(report.classes):,} classes, {fmt.size(report.bytes)}"),
        ("own folders", parts if report.train_images or report.validation_images else ""),
        ("pixels", _sizes(report)),
        ("problems", f"{report.problem_count:,}" if report.problem_count else ""),
        ("fingerprint", Text(report.fingerprint, "dim")),
    )
    shown = [about]
    if report.classes:
        shown.append(_classes(report))
    if report.problems:
        problems = table("", "problem", "file")
        for problem in report.problems[:_MAX_PROBLEMS]:
            mark = Text("✘", "red") if problem.fatal else Text("!", "yellow")
            problems.add_row(mark, Text(problem.message), Text(_place(problem), "dim"))
        if report.problem_count > _MAX_PROBLEMS:
            problems.add_row("", Text(f"… {report.problem_count - _MAX_PROBLEMS:,} more", "dim"), "")
        shown.append(problems)
    return Group(*(piece for part in shown for piece in (part, "")))


def _sizes(report: DatasetReport) -> str:
    """`64 × 64`, `64 × 48 to 640 × 480`: widths and heights apart, smallest and largest."""
    if not report.max_width:
        return ""
    smallest, largest = (
        f"{width:,} × {height:,}"
        for width, height in ((report.min_width, report.min_height), (report.max_width, report.max_height))
    )
    return smallest if smallest == largest else f"{smallest} to {largest}"


def _classes(report: DatasetReport) -> Table:
    """The balance of the classes: bars of images, of objects (detection) or of pixels (segmentation)."""
    unit = {TASK_DETECTION: "objects", TASK_SEGMENTATION: "pixels"}.get(report.task, "")
    headings = ["class", "images", *([unit] if unit else []), ""]
    classes = table(*headings, right=("images", unit), keep=("class",))
    numbers = [getattr(one, unit or "images") for one in report.classes]
    most = max(numbers) or 1
    for one, number in zip(report.classes[:_MAX_CLASSES], numbers, strict=False):
        bar = Text(fmt.bar(number / most, _BAR_WIDTH), "cyan")
        classes.add_row(Text(one.name), f"{one.images:,}", *([f"{number:,}"] if unit else []), bar)
    if len(report.classes) > _MAX_CLASSES:
        classes.add_row(Text(f"… {len(report.classes) - _MAX_CLASSES} more", "dim"), "", "")
    return classes


def _place(problem: DatasetProblem) -> str:
    return f"{problem.path}:{problem.line}" if problem.line else problem.path
