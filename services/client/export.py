"""The log, or a choice from it, as files: in constant memory, and to be continued after any end.

Events are taken in rounds. A round's parts are written below `.partial`, made durable, renamed into place, and then
named in the manifest, which is replaced in one step: an export that is killed goes on after its last round, and what a
half-done round has left is removed first.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from protos.eventlog.v1 import eventlog_pb2 as pb
from services.cli.errors import CliError
from services.client import manifest as manifests
from services.client.errors import ExportDiffers, ExportRuns, LogReplaced
from services.client.log import Log, Range
from services.client.manifest import Manifest, Part, Selection
from services.client.parts import ALL, Parts, open_parts

FORMATS = ("parquet", "jsonl", "csv")

# The end of a round: what is written again, at most, after a kill.
ROUND_EVENTS = 1_000_000
_ROUND_BYTES = 1 << 30

_PARTIAL = ".partial"
_LOCK = ".lock"
_EVENTS = "events"
_SUFFIXES = {"parquet": "parquet", "jsonl": "jsonl", "csv": "csv"}


@dataclass(frozen=True, slots=True)
class Progress:
    """`scanned` moves from `first` - 1 to `last`. `events`: found so far in this run."""

    first: int
    last: int
    scanned: int
    events: int


Told = Callable[[Progress], None]


def export(
    log: Log,
    folder: Path,
    selection: Selection,
    last: int = 0,
    tell: Told = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
    round_events: int = ROUND_EVENTS,
) -> Manifest:
    """Export what `selection` chooses up to position `last` (zero: the head), or go on with the export in `folder`.

    Ends early, with all that was read in place, once `stopping` says so. Raises ExportDiffers where the folder holds
    another export, LogReplaced where it holds another log's, ExportRuns where somebody else writes to it, and what
    `Log` raises.
    """
    head = log.head()
    last = min(last or head.position, head.position)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        found = manifests.read(folder)
        if found is None:
            _refuse_strangers(folder)
            found = Manifest(head.log_id, selection, selection.first - 1)
            manifests.write(folder, found)
        _check(folder, found, selection, head.log_id)
        if found.position > last:
            raise ExportDiffers(
                f"{folder} holds the log up to #{found.position} already, beyond #{last}; choose another folder"
            )
        _sweep(folder, found)
        _Export(log, folder, found, tell, stopping, round_events).run(last)
        return found


class _Export:
    def __init__(
        self, log: Log, folder: Path, manifest: Manifest, tell: Told, stopping: Callable[[], bool], round_events: int
    ) -> None:
        self._log, self._folder, self._manifest = log, folder, manifest
        self._tell, self._stopping, self._round_events = tell, stopping, round_events
        self._parts: Parts | None = None
        self._of_round = 0
        self._bytes_of_round = 0
        self._newest_us = manifest.recorded_at_us

    def run(self, last: int) -> None:
        """Read on to `last`, round by round."""
        first, selection = self._manifest.position + 1, self._manifest.selection
        wanted = pb.EventFilter(
            types=selection.types,
            workspace_id=selection.workspace_id,
            stream_kind=selection.stream_kind,
            stream_id=selection.stream_id,
        )
        events, scanned = 0, first - 1
        responses = self._log.pages(Range(first, last), wanted, self._manifest.log_id)
        self._tell(Progress(first, last, scanned, 0))
        try:
            for response in responses:
                self._take(response)
                scanned = max(scanned, response.scanned_position)
                events += len(response.events)
                self._tell(Progress(first, last, scanned, events))
                if self._stopping():
                    break
                if self._of_round >= self._round_events or self._bytes_of_round >= _ROUND_BYTES:
                    self._commit(scanned)
        except CliError:
            # The platform has gone; what it has told is whole.
            self._commit(scanned)
            raise
        self._commit(scanned)

    def _take(self, response: pb.ReadEventsResponse) -> None:
        if not response.events:
            return
        if self._parts is None:
            (self._folder / _PARTIAL).mkdir(exist_ok=True)
            self._parts = open_parts(self._manifest.selection.format, self._partial)
        self._parts.add(response.events)
        self._of_round += len(response.events)
        self._bytes_of_round += response.ByteSize()
        self._newest_us = max(self._newest_us, response.events[-1].recorded_at_us)

    def _commit(self, position: int) -> None:
        """What was read up to `position` becomes part of the export, all of it or nothing."""
        if position == self._manifest.position:
            return
        counts = self._parts.close() if self._parts is not None else {}
        parts = [Part(self._name(kind), kind, events) for kind, events in sorted(counts.items())]
        for part in parts:
            file = self._folder / part.file
            file.parent.mkdir(parents=True, exist_ok=True)
            self._partial(part.kind).rename(file)
        for changed in {(self._folder / part.file).parent for part in parts}:
            manifests.sync_folder(changed)
        if parts:
            manifests.sync_folder(self._folder / _EVENTS)
        self._manifest.parts += parts
        self._manifest.position, self._manifest.recorded_at_us = position, self._newest_us
        manifests.write(self._folder, self._manifest)
        shutil.rmtree(self._folder / _PARTIAL, ignore_errors=True)
        self._parts, self._of_round, self._bytes_of_round = None, 0, 0

    def _partial(self, kind: str) -> Path:
        return self._folder / _PARTIAL / kind

    def _name(self, kind: str) -> str:
        below = _EVENTS if kind == ALL else f"{_EVENTS}/{kind}"
        suffix = _SUFFIXES[self._manifest.selection.format]
        return f"{below}/part-{self._manifest.next_number(kind):05d}.{suffix}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportRuns(f"another export writes to {folder}; wait for its end, or choose another folder") from None
        yield


def _refuse_strangers(folder: Path) -> None:
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in (_LOCK, f".{manifests.NAME}.new"))
    if others:
        raise ExportDiffers(
            f"{folder} holds other things ({', '.join(others[:3])}) and no export; choose an empty or a new folder"
        )


def _check(folder: Path, found: Manifest, wanted: Selection, log_id: str) -> None:
    """Raises where what the folder holds cannot be continued with what is wanted now."""
    if found.log_id != log_id:
        raise LogReplaced(found.log_id, log_id)
    if found.selection != wanted:
        names = [
            name for name in wanted.__dataclass_fields__ if getattr(found.selection, name) != getattr(wanted, name)
        ]
        had = ", ".join(f"{name} {_shown(getattr(found.selection, name))}" for name in names)
        asked = ", ".join(f"{name} {_shown(getattr(wanted, name))}" for name in names)
        raise ExportDiffers(
            f"{folder} holds an export with {had}, not {asked}; ask for the same, or choose another folder"
        )


def _shown(value: object) -> str:
    return "all" if value in ((), "") else ", ".join(value) if isinstance(value, tuple) else str(value)


def _sweep(folder: Path, manifest: Manifest) -> None:
    """Remove what a round has left that did not come to its end."""
    shutil.rmtree(folder / _PARTIAL, ignore_errors=True)
    known = {part.file for part in manifest.parts}
    for file in (folder / _EVENTS).rglob("part-*"):
        if file.relative_to(folder).as_posix() not in known:
            file.unlink()


def remove(folder: Path) -> None:
    """Remove an export, the folder included. Raises ExportRuns where one is being written."""
    with _locked(folder):
        for entry in folder.iterdir():
            if entry.name != _LOCK:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.rmtree(folder)
