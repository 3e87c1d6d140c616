"""Walks the folders of a dataset. Always ends: links are followed, each folder once."""

import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from runner_agent.trainer.datasets.listing import (
    MAX_FOLDERS,
    MAX_IMAGES,
    MISSING,
    NOT_REGULAR,
    SUFFIXES,
    Group,
    ListingError,
    Problem,
    printable,
)

# Names of folders that hold a part of the dataset.
TRAIN = "train"
VALIDATION = ("val", "valid", "validation")
TEST = "test"
PARTS = frozenset({TRAIN, *VALIDATION, TEST})


@dataclass(frozen=True)
class File:
    path: str
    size_bytes: int


@dataclass
class Walk:
    """One walk over the folders below `root`, with what was wrong on the way."""

    root: Path
    stopped: Callable[[], bool]
    # Whether a path may be read once links are followed; None: any.
    allowed: Callable[[str], bool] | None = None
    problems: list[Problem] = field(default_factory=list)
    folders: int = 0
    images_found: int = 0
    ignored: int = 0
    first_ignored: str = ""
    # Set once a limit or `stopped` has ended the walk.
    ended: bool = False

    def problem(self, path: str, message: str, *, fatal: bool, line: int = 0) -> None:
        self.problems.append(Problem(printable(path), message, fatal, line))

    def ignore(self, path: str) -> bool:
        """Count a file that is of no use; returns False, so that it can stand in a condition."""
        self.first_ignored = self.first_ignored or path
        self.ignored += 1
        return False

    def entries(self, relative: str) -> list[os.DirEntry[str]]:
        """Entries of a folder by name. One that cannot be listed is fatal: its images would be missing unnoticed.

        Names with a leading dot are left out.
        """
        try:
            with os.scandir(self.root / relative) as entries:
                found = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            self.problem(relative, f"the folder cannot be read: {error.strerror}", fatal=True)
            return []
        return [entry for entry in found if self._may_follow(entry)]

    def subfolders(self, relative: str) -> list[str]:
        """Names of the folders in a folder."""
        return [entry.name for entry in self.entries(relative) if is_folder(entry)]

    def images(self, folder: str, suffixes: frozenset[str] = SUFFIXES) -> list[File]:
        """All images below a folder. Those that a limit or a stop cut off are told among the problems."""
        found: list[File] = []
        waiting = [folder]
        visited: set[tuple[int, int]] = set()
        while waiting and not self._must_end(len(found)):
            current = waiting.pop()
            identity = _identity(self.root / current)
            if identity in visited:
                continue
            visited.add(identity)
            self.folders += 1
            for entry in self.entries(current):
                path = f"{current}/{entry.name}" if current else entry.name
                if is_folder(entry):
                    waiting.append(path)
                elif Path(entry.name).suffix.lower() in suffixes:
                    found.append(File(path, _regular_size(entry)))
                else:
                    self.ignore(path)
        self.images_found += len(found)
        return found

    def is_file(self, relative: str) -> bool:
        """Whether there is something other than a folder of this name, a broken link or a pipe included."""
        path = self.root / relative
        try:
            return os.path.lexists(path) and not path.is_dir()
        except (OSError, ValueError):
            return False

    def size_of(self, relative: str) -> int:
        """Size of a regular file, in bytes; NOT_REGULAR or MISSING."""
        path = self.root / relative
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return NOT_REGULAR if path.is_symlink() else MISSING
        except (OSError, ValueError):
            return NOT_REGULAR
        if self.allowed is not None and not self.allowed(str(path)):
            return NOT_REGULAR
        return status.st_size if stat.S_ISREG(status.st_mode) else NOT_REGULAR

    def read(self, relative: str, limit_bytes: int, what: str) -> bytes:
        """The content of a regular file. Raises ListingError."""
        size_bytes = self.size_of(relative)
        name = printable(relative)
        if size_bytes == MISSING:
            raise ListingError(f"{name} is not there", relative)
        if size_bytes == NOT_REGULAR:
            raise ListingError(f"{name} is not a regular file that may be read; put the {what} there", relative)
        if size_bytes > limit_bytes:
            size, limit = (f"{number / 2**20:,.0f} MiB" for number in (size_bytes, limit_bytes))
            raise ListingError(f"{name} has {size}, above the limit of {limit} for {what}; split the dataset", relative)
        try:
            return (self.root / relative).read_bytes()
        except OSError as error:
            raise ListingError(f"{name} cannot be read: {error.strerror}", relative) from None

    def tell_unused(self, names: list[str], used: Collection[str], below: str = "") -> None:
        """Add the folders of parts of the dataset that are not used to the problems."""
        for name in (TEST, *VALIDATION):
            if name in names and name not in used:
                message = (
                    f"the folder {below}{name} is ignored; a training uses one folder each to train and to validate"
                )
                self.problem(f"{below}{name}", message, fatal=False)

    def tell_ignored(self, what: str) -> None:
        """Add the number of files that are of no use to the problems."""
        if self.ignored:
            example = printable(self.first_ignored)
            files = "1 file is" if self.ignored == 1 else f"{self.ignored:,} files are"
            self.problem("", f"{files} {what}, for example {example}", fatal=False)

    def _may_follow(self, entry: os.DirEntry[str]) -> bool:
        if self.allowed is None or not entry.is_symlink() or self.allowed(entry.path):
            return True
        path = os.path.relpath(entry.path, self.root)
        self.problem(path, f"{printable(path)} leads out of the folders that this runner may read", fatal=False)
        return False

    def _must_end(self, found: int) -> bool:
        reason = None
        if self.images_found + found > MAX_IMAGES:
            reason = f"holds more than {MAX_IMAGES:,} images; split the dataset"
        elif self.folders >= MAX_FOLDERS:
            reason = f"holds more than {MAX_FOLDERS:,} folders; check that the location is the dataset's own folder"
        elif self.stopped():
            reason = "could not be listed in time"
        if reason is not None and not self.ended:
            self.problem("", reason, fatal=True)
            self.ended = True
        return self.ended


def parts(names: list[str]) -> dict[Group, str] | None:
    """The folders to train and to validate on, where the names are those of a dataset that is split already.

    Without a folder to validate on, only TRAIN is there. Pure.
    """
    if TRAIN not in names or not set(names) <= PARTS:
        return None
    validation = [name for name in VALIDATION if name in names]
    return {Group.TRAIN: TRAIN, **({Group.VALIDATION: validation[0]} if validation else {})}


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _regular_size(entry: os.DirEntry[str]) -> int:
    try:
        status = entry.stat()
    except OSError:
        return NOT_REGULAR
    return status.st_size if stat.S_ISREG(status.st_mode) else NOT_REGULAR
