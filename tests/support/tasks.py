"""The three tasks on the handwritten digits, with the smallest architecture of the catalogue for each."""

import json
import shutil
from functools import cache
from pathlib import Path

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.trainer.datasets import sample
from services.scheduler.catalogue import ARCHITECTURES, read_architectures

CLASSIFICATION, DETECTION, SEGMENTATION = "resnet-tiny", "rt-detr-v2-nano", "segformer-nano"
ALL = (CLASSIFICATION, DETECTION, SEGMENTATION)
FORMATS = {
    CLASSIFICATION: training_pb2.DATASET_FORMAT_IMAGE_FOLDER,
    DETECTION: training_pb2.DATASET_FORMAT_COCO,
    SEGMENTATION: training_pb2.DATASET_FORMAT_MASK_FOLDER,
}
# All augmentations at once, mildly.
AUGMENTED = training_pb2.Augmentations(
    horizontal_flip=0.5,
    vertical_flip=0.1,
    rotation_degrees=10,
    crop_min_area=0.6,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.05,
    blur=0.2,
    erasing=0.2,
)


@cache
def architecture(architecture_id: str) -> training_pb2.Architecture:
    return read_architectures(ARCHITECTURES)[architecture_id]


def write(architecture_id: str, folder: Path) -> Path:
    """The sample of the architecture's task."""
    writers = {
        CLASSIFICATION: sample.write_digits,
        DETECTION: sample.write_detection,
        SEGMENTATION: sample.write_segmentation,
    }
    writers[architecture_id](folder)
    return folder


def first(architecture_id: str, whole: Path, folder: Path, images: int) -> Path:
    """A dataset of the first images of a sample; of the digits as many of each of the first two classes."""
    folder.mkdir(parents=True)
    if architecture_id == CLASSIFICATION:
        for name in ("0", "1"):
            (folder / name).mkdir()
            for path in sorted((whole / name).iterdir())[: images // 2]:
                shutil.copy(path, folder / name / path.name)
        return folder
    (folder / "images").mkdir()
    names = {path.name for path in sorted((whole / "images").iterdir())[:images]}
    for name in names:
        shutil.copy(whole / "images" / name, folder / "images" / name)
    if architecture_id == DETECTION:
        content = json.loads((whole / "annotations.json").read_text())
        content["images"] = [one for one in content["images"] if one["file_name"] in names]
        numbers = {one["id"] for one in content["images"]}
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] in numbers]
        (folder / "annotations.json").write_text(json.dumps(content))
        return folder
    (folder / "masks").mkdir()
    for name in names:
        shutil.copy(whole / "masks" / name, folder / "masks" / name)
    shutil.copy(whole / "classes.txt", folder / "classes.txt")
    return folder


def training(architecture_id: str, location: Path, *, steps: int = 0) -> session_pb2.Assignment:
    """A training with the defaults of the catalogue; the caller changes what its test is about."""
    chosen = architecture(architecture_id)
    spec = training_pb2.TrainingSpec(
        dataset=training_pb2.Dataset(
            dataset_id="d1", name="digits", location=str(location), format=FORMATS[architecture_id]
        ),
        architecture=chosen,
        limits=training_pb2.Limits(steps=steps, epochs=0 if steps else chosen.default_epochs),
    )
    return session_pb2.Assignment(attempt_id="a1", job_id="j1", spec=spec, window_ms=900_000)
