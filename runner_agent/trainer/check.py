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
from runner_agent.trainer.datasets import images
from runner_agent.trainer.datasets.image_folder import ImageFolder, Problem, printable, scan

MAX_PROBLEMS = 100


def check(location: str, stopped: Callable[[], bool]) -> training_pb2.DatasetReport:
    """Decode and hash every image.

    Where `stopped` turns true first, the report covers what was read until then, has no fingerprint and says so.
    """
    folder = scan(location, stopped)
    problems = list(folder.problems)
    broken: list[tuple[int, str]] = []
    fingerprint = hashlib.sha256()
    seen = 0
    for chunk in images.in_chunks(folder, partial(_inspect, folder), stopped):
        for index, reason, digest in chunk:
            seen += 1
            file = folder.files[index]
            fingerprint.update(b"%s\0%d\0%s\n" % (os.fsencode(file.path), file.size_bytes, digest))
            if reason:
                broken.append((index, reason))
    total = len(folder.files)
    if seen < total:
        problems.append(Problem("", f"time ran out after {seen:,} of {total:,} images; no fingerprint", fatal=False))
    refusal = images.refusal(folder, broken)
    if refusal is not None and refusal not in problems:
        problems.append(refusal)
    fatal = images.too_many_broken(len(broken), total)
    for index, reason in broken:
        path = printable(folder.files[index].path)
        if refusal is None or refusal.path != path:
            problems.append(Problem(path, f"{path} {reason}", fatal))
    report = training_pb2.DatasetReport(
        usable=refusal is None,
        images=total - len(broken),
        bytes=sum(max(0, file.size_bytes) for file in folder.files),
        fingerprint=fingerprint.hexdigest() if 0 < seen == total else "",
        problem_count=len(problems),
    )
    counts = images.class_counts(folder, {index for index, _ in broken})
    for name, count in zip(folder.classes, counts, strict=True):
        report.classes.add(name=name, images=count)
    problems.sort(key=lambda problem: not problem.fatal)
    for problem in problems[:MAX_PROBLEMS]:
        report.problems.add(path=problem.path, message=problem.message, fatal=problem.fatal)
    return report


def _inspect(folder: ImageFolder, part: range) -> list[tuple[int, str, bytes]]:
    """For each image (index, what is wrong with it or "", SHA-256 of its bytes)."""
    found = []
    for index in part:
        reason, digest = "", b""
        try:
            images.decode(folder.root, folder.files[index])
        except images.UnreadableImageError as error:
            reason = str(error)
        if folder.files[index].size_bytes >= 0:
            try:
                with (folder.root / folder.files[index].path).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                reason = f"cannot be read: {error.strerror}"
        found.append((index, reason, digest))
    return found


def main() -> int:
    """Exit code 0 once the report is written, whatever it says."""
    parser = argparse.ArgumentParser(prog="runner_agent.trainer.check", description="Look at a dataset on this box.")
    parser.add_argument("location", help="absolute path of the dataset")
    parser.add_argument("--format", choices=["image_folder"], default="image_folder")
    parser.add_argument("--output", type=Path, required=True, help="where the report is written")
    parser.add_argument("--time-limit-s", type=float, default=300.0, help="report what was read until then")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="PIL")
    deadline_ns = clock.boottime_ns() + int(arguments.time_limit_s * 1e9)
    report = check(arguments.location, stopped=lambda: clock.boottime_ns() >= deadline_ns)
    try:
        files.replace(arguments.output, MessageToJson(report, preserving_proto_field_name=True).encode(), durable=False)
    except OSError as error:
        print(f"the report cannot be written to {arguments.output}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
