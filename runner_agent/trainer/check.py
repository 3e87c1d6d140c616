"""Looks at a dataset before anything is charged: `python -m runner_agent.trainer.check LOCATION --output FILE`.

Writes a `tether.training.v1.DatasetReport` as proto JSON. Imports no torch, so that it answers within a second.
"""

import argparse
import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from google.protobuf.json_format import MessageToJson

from protos.training.v1 import training_pb2
from runner_agent import clock, files
from runner_agent.errors import BoxError
from runner_agent.trainer.datasets import examples, formats, images, remote
from runner_agent.trainer.datasets.listing import TASKS, Item, Listing, Problem, printable
from runner_agent.trainer.datasets.places import Places, of
from runner_agent.trainer.datasets.survey import Finding, Survey, broken, finding

MAX_PROBLEMS = 100
_ANYWHERE = Places(Path(os.devnull))


def check(
    location: str,
    stopped: Callable[[], bool],
    format_: int = training_pb2.DATASET_FORMAT_IMAGE_FOLDER,
    places: Places = _ANYWHERE,
) -> training_pb2.DatasetReport:
    """Decode and hash every image with what belongs to it.

    Where `stopped` turns true first, the report covers what was read until then, has no fingerprint and says so.
    """
    progress = [""]

    def say(line: str) -> None:
        progress[0] = f" ({line})"

    try:
        root = remote.locate(location, places, stopped, say)
    except remote.LocationError as error:
        return _unusable(format_, str(error))
    except remote.Interrupted:
        message = f"{location} could not be fetched in time{progress[0]}; check it again, and it goes on from there"
        return _unusable(format_, message)
    listing = formats.scan(root, format_, stopped, places.allowed(root))
    survey = Survey(listing)
    fingerprint = hashlib.sha256()
    for chunk in images.in_chunks(listing.items, partial(_inspect, listing), stopped):
        for one, digest in chunk:
            survey.add([one])
            item = listing.items[one.index]
            fingerprint.update(b"%s\0%d\0%s\n" % (os.fsencode(item.path), item.size_bytes, digest))
    return _report(survey, fingerprint.hexdigest())


def _unusable(format_: int, message: str) -> training_pb2.DatasetReport:
    problem = training_pb2.DatasetProblem(message=message, fatal=True)
    return training_pb2.DatasetReport(usable=False, problems=[problem], problem_count=1, task=TASKS[format_])


def _report(survey: Survey, fingerprint: str) -> training_pb2.DatasetReport:
    listing, total = survey.listing, len(survey.listing.items)
    refusal = survey.refusal()
    problems = _problems(survey, refusal)
    train, validation = survey.groups()
    report = training_pb2.DatasetReport(
        usable=refusal is None,
        images=total - len(survey.broken),
        bytes=sum(max(0, item.size_bytes) for item in listing.items),
        fingerprint=fingerprint if 0 < survey.seen == total else "",
        problem_count=len(problems),
        task=listing.task,
        train_images=train,
        validation_images=validation,
        min_width=survey.smallest[0],
        min_height=survey.smallest[1],
        max_width=survey.largest[0],
        max_height=survey.largest[1],
    )
    for name, (count, units) in zip(survey.classes, survey.counts(), strict=True):
        one = report.classes.add(name=name, images=count)
        if listing.task == training_pb2.TASK_DETECTION:
            one.objects = units
        elif listing.task == training_pb2.TASK_SEGMENTATION:
            one.pixels = units
    for problem in problems[:MAX_PROBLEMS]:
        report.problems.add(path=problem.path, message=problem.message, fatal=problem.fatal, line=problem.line)
    return report


def _problems(survey: Survey, refusal: Problem | None) -> list[Problem]:
    """All that is wrong, worst first."""
    listing, total = survey.listing, len(survey.listing.items)
    problems = list(listing.problems)
    if survey.seen < total:
        message = f"time ran out after {survey.seen:,} of {total:,} images; no fingerprint"
        problems.append(Problem("", message, fatal=False))
    if refusal is not None and refusal not in problems:
        problems.append(refusal)
    problems += survey.warnings()
    for one in survey.broken:
        path = printable(listing.items[one.index].path)
        problem = Problem(printable(one.path) or path, f"{path} {one.reason}", survey.too_many_broken, one.line)
        if refusal is None or not refusal.message.startswith(f"{problem.message}:"):
            problems.append(problem)
    return sorted(problems, key=lambda problem: not problem.fatal)


def _inspect(listing: Listing, part: range) -> list[tuple[Finding, bytes]]:
    """What each image is, with the SHA-256 of its bytes and of what is said of it."""
    found = []
    for index in part:
        item = listing.items[index]
        try:
            one = finding(index, examples.read(listing, item))
        except images.UnreadableImageError as error:
            one = broken(index, error)
        digest = b""
        try:
            digest = _digest(listing, item)
        except OSError as error:
            one = one if one.reason else Finding(index, f"cannot be read: {error.strerror}")
        found.append((one, digest))
    return found


def _digest(listing: Listing, item: Item) -> bytes:
    """Raises OSError."""
    digests = []
    for path in (item.path, item.companion):
        if path and item.size_bytes >= 0 and (listing.root / path).is_file():
            with (listing.root / path).open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").digest())
    if item.objects is not None:
        parts = (item.objects.boxes, item.objects.labels, item.objects.crowd)
        digests.append(hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest())
    return b"".join(digests)


def main() -> int:
    """Exit code 0 once the report is written, whatever it says."""
    parser = argparse.ArgumentParser(prog="runner_agent.trainer.check", description="Look at a dataset on this box.")
    parser.add_argument("location", help="absolute path of the dataset, or a URL")
    parser.add_argument("--format", choices=sorted(formats.NAMES), default="image-folder")
    parser.add_argument("--output", type=Path, required=True, help="where the report is written")
    parser.add_argument("--time-limit-s", type=float, default=300.0, help="report what was read until then")
    parser.add_argument("--state-dir", type=Path, help="state folder of the runner, whose settings hold")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="PIL")
    deadline_ns = clock.boottime_ns() + int(arguments.time_limit_s * 1e9)
    format_ = formats.NAMES[arguments.format]
    try:
        places = of(arguments.state_dir) if arguments.state_dir is not None else _ANYWHERE
        report = check(arguments.location, lambda: clock.boottime_ns() >= deadline_ns, format_, places)
    except BoxError as error:
        report = _unusable(format_, str(error))
    try:
        files.replace(arguments.output, MessageToJson(report, preserving_proto_field_name=True).encode(), durable=False)
    except OSError as error:
        print(f"the report cannot be written to {arguments.output}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
