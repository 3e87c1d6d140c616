"""`tether jobs preview`: what a training says of a few validation images, beside what is in them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from protos.metrics.v1 import evaluation_pb2 as pb
from protos.metrics.v1.preview_pb2 import Annotation, Prediction
from services.cli import pick
from services.cli.connection import connect
from services.cli.errors import CliError
from services.cli.jobs_evaluation import Step
from services.cli.output import console, print_json
from services.cli.parameters import AsJson, JobArgument
from services.cli.tables import table
from services.words import format as fmt

_MOST_STEPS, _MOST_CLASSES = 10, 3
# A box counts in what is listed from here on, as in the confusion matrix.
_SURE = 0.25


def register(group: typer.Typer) -> None:
    group.command("preview", epilog="Example: tether jobs preview last --step 200 --output previews")(preview)


def preview(
    context: typer.Context,
    job: JobArgument,
    step: Step = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for one PNG an image: ground truth left, prediction right.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite PNGs that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what was predicted of the preview images; as pictures with --output. Part of advanced evaluation."""
    platform = connect(context)
    request = pb.GetPreviewRequest(job_id=pick.job_id(platform, job), step=step, without_pixels=output is None)
    response = platform.evaluations.GetPreview(request)
    written = _write(response, output, force) if output is not None else []
    if as_json:
        for image in response.images:
            image.ClearField("jpeg")
        print_json(response)
        return
    _list(response)
    if output is not None:
        console().print(f"{fmt.count(len(written), 'picture')} in {output}")


def _list(response: pb.GetPreviewResponse) -> None:
    steps = [str(one) for one in response.steps[-_MOST_STEPS:]]
    more = "…, " if len(response.steps) > _MOST_STEPS else ""
    console().print(
        Text(f"Previews of step {response.step}", "bold") + Text(f"  there are {more}{', '.join(steps)}", "dim")
    )
    predictions = {one.number: one for one in response.predictions}
    made = table("", "image", "ground truth", "prediction", right=("",))
    for image in response.images:
        found = predictions.get(image.number, Prediction()).annotation
        truth = words(image.truth, response.classes)
        made.add_row(str(image.number), Text(image.path), Text(truth), Text(words(found, response.classes)))
    console().print(made)
    if not response.images:
        console().print("The images themselves did not arrive: the box had no room for them.")


def words(annotation: Annotation, classes: Sequence[str]) -> str:
    """`cat 0.93, dog 0.04`; `2 cat, 1 dog`; `road 61 %, sky 30 %`."""
    names = list(classes)
    if annotation.labels:
        shown = annotation.labels[:_MOST_CLASSES]
        certain = len(annotation.labels) == 1 and annotation.labels[0].confidence == 1
        return ", ".join(_name(names, one.class_index) + ("" if certain else f" {one.confidence:.2f}") for one in shown)
    if annotation.boxes:
        sure = [_name(names, one.class_index) for one in annotation.boxes if one.confidence >= _SURE]
        return ", ".join(f"{sure.count(name)} {name}" for name in dict.fromkeys(sure)) or "nothing that is sure"
    pixels: dict[int, int] = {}
    for index, length in zip(annotation.label_map.classes, annotation.label_map.lengths, strict=True):
        pixels[index] = pixels.get(index, 0) + length
    total = sum(pixels.values())
    largest = sorted(pixels, key=lambda index: -pixels[index])[:_MOST_CLASSES]
    return ", ".join(f"{_name(names, index)} {pixels[index] / total:.0%}" for index in largest) or "nothing"


def _name(names: list[str], index: int) -> str:
    return names[index] if index < len(names) else "not labelled" if index == 255 else f"class {index}"


def _write(response: pb.GetPreviewResponse, output: Path, force: bool) -> list[Path]:
    """Raises CliError."""
    try:
        from services.cli.preview_drawing import draw
    except ImportError:
        raise CliError(
            "drawing needs the package pillow; install it (`pip install pillow`), or leave out --output"
        ) from None
    predictions = {one.number: one.annotation for one in response.predictions}
    paths = {
        image.number: output / f"{image.number:02d}-{_stem(image.path)}-step-{response.step}.png"
        for image in response.images
    }
    there = [path for path in paths.values() if path.exists()]
    if there and not force:
        raise CliError(f"{there[0]} is there already; choose another folder, or overwrite with --force")
    try:
        output.mkdir(parents=True, exist_ok=True)
        for image in response.images:
            picture = draw(image, predictions.get(image.number, Annotation()), list(response.classes))
            picture.save(paths[image.number])
    except OSError as error:
        raise CliError(f"{output} cannot be written ({error.strerror or error}); choose another folder") from None
    return list(paths.values())


def _stem(path: str) -> str:
    """The file's name without what a file name should not have; it comes from a dataset."""
    return re.sub(r"[^\w.-]+", "_", Path(path).stem)[:60].strip(".") or "image"
