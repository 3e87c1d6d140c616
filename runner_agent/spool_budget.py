"""How much an attempt may spool, and what gives way when that is used up. Standard library only.

Trainer, keeper and agent each write one spool of an attempt. All three look at the same files and the same limit, and
each gives way by itself: previews first, then log lines and system samples, then metric points, which are thinned
before they are dropped; evaluations are kept longest. What is delivered is given back, so a training with a connection
hardly uses any of it. Nothing ever waits: a record that has no room is dropped and counted (`losses`).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from runner_agent import files

SPOOLS = ("trainer", "log", "system")
LIMIT_FILE = "limit.json"
GIB = 1024**3
MIB = 1024**2
# Of one attempt and of all attempts of a runner: the smaller of bytes and share of the disk.
ATTEMPT_DEFAULT = (2 * GIB, 0.05)
BOX_DEFAULT = (8 * GIB, 0.10)
# An attempt gets this much even where nothing is left for it.
LEAST_BYTES = 1 * MIB
LOOK_INTERVAL_NS = 500_000_000
# Of points, while they are thinned, one in so many is kept.
THINNED_TO_ONE_IN = 10


@dataclass
class Gate:
    """Closes when the used share reaches one figure and opens again below another, so that it does not flicker."""

    closes_at: float
    opens_below: float
    closed: bool = False

    def is_open(self, share: float) -> bool:
        self.closed = share >= (self.opens_below if self.closed else self.closes_at)
        return not self.closed


def previews() -> Gate:
    """They are large, so each is asked with what the share would be with it."""
    return Gate(0.40, 0.30)


def first_to_go() -> Gate:
    """For log lines and system samples."""
    return Gate(0.50, 0.40)


def thinning() -> Gate:
    """For metric points: while it is closed, one in `THINNED_TO_ONE_IN` is kept."""
    return Gate(0.70, 0.60)


def points() -> Gate:
    return Gate(0.90, 0.80)


def evaluations() -> Gate:
    return Gate(0.98, 0.93)


class Budget:
    """The used share of an attempt's limit, as one of its writers sees it."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the attempt's spools."""
        self._folder = folder
        self._due_ns = 0
        self._used_bytes = 0
        self.limit_bytes = ATTEMPT_DEFAULT[0]

    def share(self, now_ns: int) -> float:
        """Looks at the disk at most every `LOOK_INTERVAL_NS` of CLOCK_BOOTTIME; in between counts `wrote`."""
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + LOOK_INTERVAL_NS
            self.limit_bytes = read_limit(self._folder)
            self._used_bytes = used_bytes(self._folder)
        return self._used_bytes / self.limit_bytes

    def share_with(self, amount_bytes: int, now_ns: int) -> float:
        """What the share would be with so much more."""
        return self.share(now_ns) + amount_bytes / self.limit_bytes

    def wrote(self, amount_bytes: int) -> None:
        self._used_bytes += amount_bytes


def read_limit(folder: Path) -> int:
    """Bytes that the agent has granted the attempt; the default where it has not said so."""
    granted = (files.read_json(folder / LIMIT_FILE) or {}).get("limit_bytes")
    return max(1, granted) if isinstance(granted, int) else ATTEMPT_DEFAULT[0]


def write_limit(folder: Path, limit_bytes: int) -> None:
    """Raises OSError."""
    files.replace(folder / LIMIT_FILE, json.dumps({"limit_bytes": limit_bytes}).encode(), durable=False)


def used_bytes(folder: Path) -> int:
    """What an attempt's spools take on the disk; parts that were given back do not count."""
    return sum(bytes_on_disk(folder / f"{name}.jsonl") for name in SPOOLS)


def bytes_on_disk(path: Path) -> int:
    """Bytes that a file really takes: a hole in it takes none. 0 where it is absent."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return min(found.st_size, found.st_blocks * 512)


def default_limit(default: tuple[int, float], disk_bytes: int) -> int:
    """The smaller of the default's bytes and its share of a disk of this size."""
    most_bytes, share = default
    return min(most_bytes, int(share * disk_bytes))


def granted_bytes(attempt_bytes: int, box_bytes: int, others_bytes: int) -> int:
    """What one attempt may use where the runner's other attempts hold `others_bytes`. Pure."""
    return max(LEAST_BYTES, min(attempt_bytes, box_bytes - others_bytes))


def disk_size(folder: Path) -> int:
    """Bytes of the file system; raises OSError."""
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize
