"""The file of a backup: a ZIP archive, stored as it is, whose manifest names the SHA-256 of everything in it.

manifest.json    what is in it, of which log and position; written last
database.dump    the whole database, `pg_dump --format=custom`
secrets.json     passwords and tokens of the platform
ports.json       where it listened, so that boxes find it again
artifacts/…      only with `--with-artifacts`
"""

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from deploy.local.errors import LocalError

FORMAT = 1
MANIFEST, DUMP, SECRETS, PORTS, ARTIFACTS = "manifest.json", "database.dump", "secrets.json", "ports.json", "artifacts/"
_CHUNK_BYTES = 1 << 20
# A manifest is small; what claims otherwise is none.
_MAX_MANIFEST_BYTES = 64 << 20

# Told of bytes that were done, for a progress bar.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Manifest:
    """What a backup holds, as of one moment of the database."""

    tether: str
    postgres: str
    # PostgreSQL's clock, RFC 3339.
    made_at: str
    log_id: str
    # Last position of the log in it.
    position: int
    # Version of each service's tables.
    schemas: dict[str, int]
    artifacts: bool
    sha256: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


class Writer:
    """Entries one after the other, then the manifest."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.sha256: dict[str, str] = {}

    async def stream(self, name: str, chunks: AsyncIterator[bytes], progress: Progress) -> None:
        """An entry of unknown length."""
        digest = hashlib.sha256()
        with self._archive.open(_entry(name), "w", force_zip64=True) as entry:
            async for chunk in chunks:
                entry.write(chunk)
                digest.update(chunk)
                progress(len(chunk))
        self.sha256[name] = digest.hexdigest()

    def copy(self, name: str, file: Path, progress: Progress) -> None:
        """An entry from a file."""
        digest = hashlib.sha256()
        with file.open("rb") as source, self._archive.open(_entry(name), "w", force_zip64=True) as entry:
            while chunk := source.read(_CHUNK_BYTES):
                entry.write(chunk)
                digest.update(chunk)
                progress(len(chunk))
        self.sha256[name] = digest.hexdigest()

    def finish(self, manifest: Manifest) -> None:
        self._archive.writestr(_entry(MANIFEST), json.dumps(asdict(manifest), indent=2) + "\n")


@contextmanager
def writing(file: Path) -> Iterator[Writer]:
    """A new archive under a temporary name (0600) beside `file`; it gets its name when all is durable.

    Raises LocalError where the file is there already or cannot be written.
    """
    if file.exists():
        raise LocalError(f"{file} is there already; name another file, because a backup is never overwritten")
    try:
        descriptor, name = tempfile.mkstemp(prefix=file.name + ".", suffix=".partial", dir=file.parent)
    except OSError as error:
        raise LocalError(f"{file.parent} cannot be written to ({error.strerror}); name another file") from None
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
                yield Writer(archive)
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(file)
        _sync(file.parent)
    except OSError as error:
        raise LocalError(f"{file} could not be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


class Archive:
    """A backup that is read. `manifest` is checked, the rest only by `verify`."""

    def __init__(self, file: Path, archive: zipfile.ZipFile) -> None:
        self.file, self._archive = file, archive
        self.manifest = self._read_manifest()

    def _read_manifest(self) -> Manifest:
        try:
            if self._archive.getinfo(MANIFEST).file_size > _MAX_MANIFEST_BYTES:
                raise ValueError
            raw = json.loads(self._archive.read(MANIFEST))
            if raw["format"] > FORMAT:
                raise LocalError(f"{self.file} was made by tether {raw['tether']}; restore it with that version")
            manifest = Manifest(**raw)
        except (KeyError, ValueError, TypeError, zipfile.BadZipFile):
            raise _no_backup(self.file) from None
        if {DUMP, SECRETS} - manifest.sha256.keys():
            raise _no_backup(self.file)
        return manifest

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(self._archive.getinfo(name).file_size for name in self.manifest.sha256)

    def names(self) -> list[str]:
        return list(self.manifest.sha256)

    def chunks(self, name: str) -> Iterator[bytes]:
        with self._archive.open(name) as entry:
            while chunk := entry.read(_CHUNK_BYTES):
                yield chunk

    def verify(self, progress: Progress) -> None:
        """Raises LocalError where an entry is not what was written."""
        for name, expected in self.manifest.sha256.items():
            digest = hashlib.sha256()
            try:
                for chunk in self.chunks(name):
                    digest.update(chunk)
                    progress(len(chunk))
            except (KeyError, zipfile.BadZipFile, EOFError, OSError):
                digest = hashlib.sha256()
            if digest.hexdigest() != expected:
                raise LocalError(f"{name} in {self.file} is damaged; take another backup, nothing was changed")

    def extract(self, name: str, to: Path) -> None:
        """Write an entry to a file (0600), with the folders above it."""
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            for chunk in self.chunks(name):
                target.write(chunk)


@contextmanager
def reading(file: Path) -> Iterator[Archive]:
    """Raises LocalError where the file is no backup."""
    with contextlib.ExitStack() as stack:
        try:
            opened: IO[bytes] = stack.enter_context(file.open("rb"))
            archive = stack.enter_context(zipfile.ZipFile(opened))
        except OSError as error:
            raise LocalError(f"{file} cannot be read ({error.strerror}); name a file of `tether backup`") from None
        except zipfile.BadZipFile:
            raise _no_backup(file) from None
        yield Archive(file, archive)


def _no_backup(file: Path) -> LocalError:
    return LocalError(f"{file} is no whole backup; name a file that `tether backup` wrote")


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o600 << 16
    return entry


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
