"""manifest.json: what an export's folder holds. A file that it does not name is not part of the export."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.client.errors import ExportDamaged

NAME = "manifest.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Selection:
    """What an export chooses from the log; it stays the same for the life of a folder, but for its end."""

    format: str
    types: tuple[str, ...] = ()
    workspace_id: str = ""
    stream_kind: str = ""
    stream_id: str = ""
    # First position, after `--from` and `--since`.
    first: int = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the export, complete and never changed again."""

    # Below the export's folder.
    file: str
    # An event type; `events` where the file holds all of them.
    kind: str
    events: int


@dataclass
class Manifest:
    """`position`: every event up to there that was chosen is in the parts, and no later one is."""

    log_id: str
    selection: Selection
    position: int
    # Unix microseconds of the newest event in the parts; zero while there is none.
    recorded_at_us: int = 0
    parts: list[Part] = field(default_factory=list)

    @property
    def events(self) -> int:
        return sum(part.events for part in self.parts)

    def next_number(self, kind: str) -> int:
        """Of the next part of this kind, from 1."""
        return sum(part.kind == kind for part in self.parts) + 1


def read(folder: Path) -> Manifest | None:
    """None where the folder holds no export. Raises ExportDamaged."""
    file = folder / NAME
    try:
        told = json.loads(file.read_text())
        if told["version"] != _VERSION:
            raise ExportDamaged(
                f"{file} was written by another version of tether ({told['version']}); export into another folder"
            )
        return _manifest(told)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ExportDamaged(f"{file} is damaged ({error}); export into another folder") from None


def write(folder: Path, manifest: Manifest) -> None:
    """Durably, in one step: whoever reads it sees the old one or the new one."""
    file, new = folder / NAME, folder / f".{NAME}.new"
    with new.open("w") as out:
        json.dump({"version": _VERSION, **asdict(manifest)}, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    new.rename(file)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _manifest(told: dict[str, Any]) -> Manifest:
    selection = told["selection"]
    return Manifest(
        str(told["log_id"]),
        Selection(**{**selection, "types": tuple(selection["types"])}),
        int(told["position"]),
        int(told["recorded_at_us"]),
        [Part(**part) for part in told["parts"]],
    )
