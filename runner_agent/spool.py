"""Reading a spool: an append-only file of records, one JSON object a line; a record's sequence is its line number."""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.json_format import ParseDict, ParseError

from protos.metrics.v1 import ingest_pb2
from runner_agent import disk_blocks, files, spool_budget

BATCH_RECORDS = 1000
BATCH_BYTES = 1024 * 1024
SPOOLS = spool_budget.SPOOLS


@dataclass(frozen=True, slots=True)
class Place:
    """Between two records: how many are before it, and their bytes."""

    sequence: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    first_sequence: int
    records: list[ingest_pb2.Record]
    end: Place


class Spool:
    """One spool of an attempt, with the place up to which it was acknowledged, which survives the process."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._path = folder / f"{name}.jsonl"
        self._mark = folder / f"{name}.acknowledged"
        # Durable, because what lies before it may not be there any more.
        self._floor = folder / f"{name}.given_back"
        self.acknowledged = max(_place(self._mark), _place(self._floor), key=lambda place: place.offset)
        self._given_back = disk_blocks.freed_up_to(_place(self._floor).offset)

    def size(self) -> int:
        """Bytes in the file; 0 where there is none yet."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def read(self, place: Place) -> Batch | None:
        """The next whole records behind a place, at most BATCH_RECORDS and about BATCH_BYTES.

        None where there is no whole line yet. A line that is no record is read as an empty one, so that the numbers of
        the others stay right.
        """
        if self.size() <= place.offset:
            return None
        with self._path.open("rb") as file:
            data = os.pread(file.fileno(), BATCH_BYTES, place.offset)
            if b"\n" not in data and len(data) == BATCH_BYTES:
                file.seek(place.offset)
                data = file.readline()
        lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1][:BATCH_RECORDS]
        if not lines:
            return None
        offset = place.offset + sum(len(line) + 1 for line in lines)
        end = Place(place.sequence + len(lines), offset)
        return Batch(place.sequence + 1, [_record(line) for line in lines], end)

    def acknowledge(self, place: Place) -> None:
        """Everything before the place need not be sent again; what that held of the disk is given back."""
        self.acknowledged = place
        content = json.dumps({"sequence": place.sequence, "offset": place.offset}).encode()
        # A lost mark means that records are sent twice, and the platform knows them.
        with contextlib.suppress(OSError):
            files.replace(self._mark, content, durable=False)
        freed = disk_blocks.freed_up_to(place.offset)
        if freed > self._given_back:
            with contextlib.suppress(OSError):
                files.replace(self._floor, content)
                self._give_back(freed)

    def forget_acknowledgements(self) -> None:
        """Begin again with what the disk still holds: the platform does not know any more what it acknowledged."""
        self.acknowledged = _place(self._floor)
        with contextlib.suppress(OSError):
            self._mark.unlink(missing_ok=True)

    def _give_back(self, end: int) -> None:
        """On a disk that cannot, it stays until the spool is pruned."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            disk_blocks.punch(descriptor, self._given_back, end)
        finally:
            os.close(descriptor)
        self._given_back = end


def _place(path: Path) -> Place:
    mark = files.read_json(path) or {}
    return Place(int(mark.get("sequence", 0)), int(mark.get("offset", 0)))


def _record(line: bytes) -> ingest_pb2.Record:
    record = ingest_pb2.Record()
    try:
        ParseDict(json.loads(line), record, ignore_unknown_fields=True)
    except (ParseError, ValueError):
        record.Clear()
    return record
