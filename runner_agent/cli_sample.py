"""Verbs of `tether-runner` that write data to try the platform out with."""

from pathlib import Path
from typing import Annotated

import typer

from runner_agent.cli_shared import console
from runner_agent.errors import BoxError

Directory = Annotated[Path, typer.Argument(help="Folder to write to; made if it is not there.")]


def digits(directory: Directory) -> None:
    """Write 1,797 scans of handwritten digits as an image folder, one folder a class. For classification."""
    from runner_agent.trainer.datasets import sample  # needs scikit-learn, which takes a second to import

    try:
        number = sample.write_digits(directory)
    except OSError as error:
        raise _unwritable(directory, error) from None
    _say(number, directory, "image-folder")


def detection(
    directory: Directory,
    yolo: Annotated[bool, typer.Option("--yolo", help="As YOLO's text labels, not as COCO.")] = False,
) -> None:
    """Write images with one to three handwritten digits each, and their boxes as COCO. For detection."""
    from runner_agent.trainer.datasets import sample  # needs scikit-learn, which takes a second to import

    try:
        number = sample.write_detection(directory, yolo=yolo)
    except OSError as error:
        raise _unwritable(directory, error) from None
    _say(number, directory, "yolo" if yolo else "coco")


def segmentation(directory: Directory) -> None:
    """Write images with one to three handwritten digits each, and a mask for each image. For segmentation."""
    from runner_agent.trainer.datasets import sample  # needs scikit-learn, which takes a second to import

    try:
        number = sample.write_segmentation(directory)
    except OSError as error:
        raise _unwritable(directory, error) from None
    _say(number, directory, "mask-folder")


def _unwritable(directory: Path, error: OSError) -> BoxError:
    return BoxError(f"cannot write to {directory}: {error.strerror}; choose another folder")


def _say(number: int, directory: Path, format_: str) -> None:
    place = directory.absolute()
    console.print(f"Wrote {number} images to {place}", highlight=False, markup=False, soft_wrap=True)
    if format_ != "image-folder":
        command = f"tether datasets register NAME {place} --format {format_}"
        console.print(f"Register them with: {command}", highlight=False, markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    group = typer.Typer(help="Data to try the platform out with.", no_args_is_help=True)
    group.command(epilog="Example: tether-runner sample digits ~/digits")(digits)
    example = "Example: tether-runner sample digits-detection ~/scenes --yolo"
    group.command("digits-detection", epilog=example)(detection)
    group.command("digits-segmentation", epilog="Example: tether-runner sample digits-segmentation ~/masks")(
        segmentation
    )
    app.add_typer(group, name="sample")
