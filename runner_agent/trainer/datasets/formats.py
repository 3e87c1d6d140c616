"""The formats in which a dataset can lie on disk, and the one way to list it."""

import stat
from collections.abc import Callable
from pathlib import Path

from protos.training.v1 import training_pb2
from runner_agent.trainer.datasets import coco, image_folder, mask_folder, paired, yolo
from runner_agent.trainer.datasets.listing import Listing, ListingError, Problem, printable
from runner_agent.trainer.datasets.walk import TRAIN, Walk

_SCANS: dict[int, Callable[[Walk], Listing]] = {
    training_pb2.DATASET_FORMAT_IMAGE_FOLDER: image_folder.scan,
    training_pb2.DATASET_FORMAT_COCO: coco.scan,
    training_pb2.DATASET_FORMAT_YOLO: yolo.scan,
    training_pb2.DATASET_FORMAT_MASK_FOLDER: mask_folder.scan,
}
# As the command line writes them.
NAMES: dict[str, int] = {
    "image-folder": training_pb2.DATASET_FORMAT_IMAGE_FOLDER,
    "coco": training_pb2.DATASET_FORMAT_COCO,
    "yolo": training_pb2.DATASET_FORMAT_YOLO,
    "mask-folder": training_pb2.DATASET_FORMAT_MASK_FOLDER,
}
_WORDS = {number: name for name, number in NAMES.items()}
# Folders that are the parts of another format where an image folder has its classes.
_OTHERS = frozenset({paired.IMAGES, yolo.LABELS, mask_folder.MASKS, "annotations"})


def scan(
    root: Path, format_: int, stopped: Callable[[], bool], allowed: Callable[[str], bool] | None = None
) -> Listing:
    """List a dataset. Never raises and always ends: what is wrong is among the problems.

    `allowed` says whether a path may be read once links are followed; without it any may be.
    """
    walk = Walk(root, stopped, allowed)
    try:
        _require_folder(root)
        listing = _SCANS[format_](walk)
    except ListingError as error:
        listing = Listing(root, format_, (), (), (*walk.problems, error.problem))
    except OSError as error:
        # A disk that fails between one look and the next.
        message = f"{printable(str(root))} cannot be read: {error.strerror}"
        listing = Listing(root, format_, (), (), (*walk.problems, Problem("", message, fatal=True)))
    mistaken = format_ == training_pb2.DATASET_FORMAT_IMAGE_FOLDER and set(listing.classes) <= _OTHERS
    if listing.fatal is None and not mistaken:
        return listing
    other = _looks_like(root)
    if other is None or other == format_:
        return listing
    hint = f"this looks like another format; register it with --format {_WORDS[other]}"
    return Listing(root, format_, (), (), (Problem("", hint, fatal=True), *listing.problems))


def _require_folder(root: Path) -> None:
    """Raises ListingError."""
    try:
        mode = root.stat().st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        message = f"{printable(str(root))} cannot be opened on the runner's box ({reason}); check the path"
        raise ListingError(message) from None
    if not stat.S_ISDIR(mode):
        raise ListingError(f"{printable(str(root))} is not a folder; give the folder that holds the dataset")


def _looks_like(root: Path) -> int | None:
    """Which format the names of files and folders speak for; None where they do not."""
    for base in (root, root / TRAIN):
        try:
            names = {path.name for path in base.iterdir()}
        except (OSError, ValueError):
            continue
        if names & set(coco.NAMES) or (base == root and _has_json(root / "annotations")):
            return training_pb2.DATASET_FORMAT_COCO
        if {paired.IMAGES, yolo.LABELS} <= names:
            return training_pb2.DATASET_FORMAT_YOLO
        if {paired.IMAGES, mask_folder.MASKS} <= names:
            return training_pb2.DATASET_FORMAT_MASK_FOLDER
    return None


def _has_json(folder: Path) -> bool:
    try:
        return any(path.suffix == ".json" for path in folder.iterdir())
    except OSError:
        return False
