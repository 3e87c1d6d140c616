"""Exports for tests: made of records without a server, and read back without the code that wrote them."""

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.client import manifest as manifests
from services.client.manifest import Manifest, Part, Selection
from services.client.parts import open_parts


def export_records(folder: Path, records: Sequence[EventRecord], cuts: Sequence[int] = ()) -> Path:
    """An export in Parquet of a log that holds the records, in parts that end at `cuts`, which count records."""
    folder.mkdir(parents=True)
    parts: list[Part] = []
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(records)}), len(records)]
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        writing = open_parts("parquet", lambda kind, number=number: folder / f"{kind}-{number}")  # type: ignore[misc]
        writing.add(records[first:last])
        parts += [Part(f"{kind}-{number}", kind, events) for kind, events in writing.close().items()]
    newest_us = max((record.recorded_at_us for record in records), default=0)
    manifests.write(folder, Manifest("log", Selection("parquet"), len(records), newest_us, parts))
    return folder


def positions(folder: Path) -> list[int]:
    """The positions in all files below an export's folder, in order; found by looking, not by the manifest."""
    found: list[int] = []
    for file in (folder / "events").rglob("part-*"):
        found += [int(row["position"]) for row in rows(file)]
    return sorted(found)


def rows(file: Path) -> list[dict[str, Any]]:
    """What a file of an export holds, as other programs read it."""
    if file.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(file).to_pylist(maps_as_pydicts="strict")
        return found
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines)) if file.suffix == ".csv" else [json.loads(line) for line in lines]
