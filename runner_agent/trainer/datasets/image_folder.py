"""Lists an image folder: one folder per class, images below it. Standard library only; nothing is decoded."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Both keep a scan below about 1 GB of memory, and end one that was pointed at a whole disk.
MAX_IMAGES = 2_000_000
MAX_FOLDERS = 200_000


@dataclass(frozen=True)
class ImageFile:
    """`path` is relative to the dataset's location, `label` the index of its class."""

    path: str
    label: int
    # -1 for what is not a regular file (a pipe, a dangling link) and must not be opened.
    size_bytes: int


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file or folder; `path` is relative, empty for the dataset as a whole."""

    path: str
    message: str
    # True if no training can start because of it.
    fatal: bool


@dataclass(frozen=True)
class ImageFolder:
    """What lies at a location: classes sorted by name, images sorted by path."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    problems: tuple[Problem, ...]

    @property
    def fatal(self) -> Problem | None:
        """The first problem because of which no training can start."""
        return next((problem for problem in self.problems if problem.fatal), None)


def printable(path: str) -> str:
    """File names need not be UTF-8; what is shown or sent must be."""
    return os.fsencode(path).decode("utf-8", "replace")


def scan(location: str, stopped: Callable[[], bool]) -> ImageFolder:
    """List the images of a dataset. Never raises and always ends: what is wrong is among the problems.

    Links are followed, each folder once per class, so that a loop of links ends. Names with a leading dot are ignored.
    """
    root = Path(location)
    refusal = _refusal(location)
    if refusal is not None:
        return ImageFolder(root, (), (), (Problem("", refusal, fatal=True),))
    walk = _Walk(root, stopped)
    names = [entry.name for entry in walk.entries("") if _is_folder(entry) or walk.ignore(entry.name)]
    classes: list[str] = []
    files: list[ImageFile] = []
    for name in names:
        found = walk.images(name, len(classes), MAX_IMAGES - len(files))
        files += found
        if found:
            classes.append(printable(name))
        else:
            walk.problem(name, "the class folder holds no images and is ignored", fatal=False)
    walk.summarise(names, classes)
    files.sort(key=lambda file: os.fsencode(file.path))
    return ImageFolder(root, tuple(classes), tuple(files), tuple(walk.problems))


def _refusal(location: str) -> str | None:
    if "://" in location:
        return f"{location} is a URL; this runner reads image folders from its own disk, so give an absolute path"
    if not location.startswith("/"):
        return f"'{location}' is not an absolute path; give the path as it is on the runner's box"
    try:
        mode = Path(location).stat().st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"{printable(location)} cannot be opened on the runner's box ({reason}); check the path"
    if not stat.S_ISDIR(mode):
        return f"{location} is not a folder; give the folder that holds one folder per class"
    return None


@dataclass
class _Walk:
    root: Path
    stopped: Callable[[], bool]
    problems: list[Problem] = field(default_factory=list)
    folders: int = 0
    ignored: int = 0
    first_ignored: str = ""
    # Set once a limit or `stopped` has ended the walk.
    ended: bool = False

    def problem(self, path: str, message: str, *, fatal: bool) -> None:
        self.problems.append(Problem(printable(path), message, fatal))

    def ignore(self, path: str) -> bool:
        """Count a file that is no image of a class; returns False, so that it can stand in a condition."""
        self.first_ignored = self.first_ignored or path
        self.ignored += 1
        return False

    def entries(self, relative: str) -> list[os.DirEntry[str]]:
        """Entries of a folder by name. One that cannot be listed is fatal: its images would be missing unnoticed."""
        try:
            with os.scandir(self.root / relative) as entries:
                return sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            self.problem(relative, f"the folder cannot be read: {error.strerror}", fatal=True)
            return []

    def images(self, name: str, label: int, room: int) -> list[ImageFile]:
        """All images below a class folder, at most `room`."""
        found: list[ImageFile] = []
        waiting = [name]
        visited: set[tuple[int, int]] = set()
        while waiting and not self._must_end(room - len(found)):
            folder = waiting.pop()
            identity = _identity(self.root / folder)
            if identity in visited:
                continue
            visited.add(identity)
            self.folders += 1
            for entry in self.entries(folder):
                path = f"{folder}/{entry.name}"
                if _is_folder(entry):
                    waiting.append(path)
                elif Path(entry.name).suffix.lower() in SUFFIXES:
                    found.append(ImageFile(path, label, _regular_size(entry)))
                else:
                    self.ignore(path)
        return found

    def _must_end(self, room: int) -> bool:
        reason = None
        if room < 0:
            reason = f"holds more than {MAX_IMAGES:,} images; split the dataset"
        elif self.folders >= MAX_FOLDERS:
            reason = f"holds more than {MAX_FOLDERS:,} folders; check that the location is the dataset's own folder"
        elif self.stopped():
            reason = "could not be listed in time"
        if reason is not None and not self.ended:
            self.problem("", reason, fatal=True)
            self.ended = True
        return self.ended

    def summarise(self, names: list[str], classes: list[str]) -> None:
        """Add what is wrong with the dataset as a whole."""
        if self.ignored:
            example = printable(self.first_ignored)
            message = f"{self.ignored:,} files are not images in a class folder and are ignored, for example {example}"
            self.problem("", message, fatal=False)
        if self.ended:
            return
        if not names:
            message = "there are no class folders; put the images of each class into a folder of its own"
            self.problem("", message, fatal=True)
        elif not classes:
            self.problem("", f"there are no images ({', '.join(sorted(SUFFIXES))}) in the class folders", fatal=True)
        elif len(classes) == 1:
            self.problem("", f"there is only one class, {classes[0]}; a classification needs two or more", fatal=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
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
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1
