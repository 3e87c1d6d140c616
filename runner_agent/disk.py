"""What a runner's state folder uses, and what of it can go: spools and checkpoints of attempts that are over."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner_agent import keeper_client
from runner_agent.attempts import AttemptFolder, all_attempts
from runner_agent.config import StateFolder
from runner_agent.facts import Fact

LOG_SPOOL = "log.jsonl"


@dataclass(frozen=True, slots=True)
class AttemptUse:
    """Bytes of one attempt's files. `spool_bytes` are its metrics and samples, `log_bytes` its log."""

    attempt_id: str
    job_id: str
    state: str
    spool_bytes: int
    log_bytes: int
    checkpoint_bytes: int
    other_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.spool_bytes + self.log_bytes + self.checkpoint_bytes + self.other_bytes


@dataclass(frozen=True, slots=True)
class DiskUse:
    attempts: tuple[AttemptUse, ...]
    # Logs of launcher and agent.
    log_bytes: int
    other_bytes: int
    free_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(one.total_bytes for one in self.attempts) + self.log_bytes + self.other_bytes


def use(folder: StateFolder) -> DiskUse:
    """How much lies where. Files that vanish meanwhile do not count."""
    held = _held(folder)
    attempts = tuple(_use(one, held) for one in all_attempts(folder.attempts))
    logs = [*folder.root.glob("*.log"), *folder.root.glob("*.log.*")]
    log_bytes = sum(_bytes(path) for path in logs)
    others = [path for path in folder.root.iterdir() if path != folder.attempts and path not in logs]
    other_bytes = sum(_bytes(path) for path in others)
    return DiskUse(attempts, log_bytes, other_bytes, shutil.disk_usage(folder.root).free)


def use_as_json(found: DiskUse) -> dict[str, Any]:
    names = ("attempt_id", "job_id", "state", "spool_bytes", "log_bytes", "checkpoint_bytes", "other_bytes")
    return {
        "attempts": [
            {**{name: getattr(one, name) for name in names}, "total_bytes": one.total_bytes} for one in found.attempts
        ],
        "log_bytes": found.log_bytes,
        "other_bytes": found.other_bytes,
        "total_bytes": found.total_bytes,
        "free_bytes": found.free_bytes,
    }


def _use(attempt: AttemptFolder, held: set[str]) -> AttemptUse:
    spool, log = _bytes(attempt.spool), _bytes(attempt.spool / LOG_SPOOL)
    checkpoints = _bytes(attempt.path / "checkpoints")
    return AttemptUse(
        attempt.attempt_id,
        attempt.assignment().job_id,
        state_of(attempt, held),
        spool_bytes=spool - log,
        log_bytes=log,
        checkpoint_bytes=checkpoints,
        other_bytes=_bytes(attempt.path) - spool - checkpoints,
    )


def state_of(attempt: AttemptFolder, held: set[str]) -> str:
    """`waiting`, `running`, `over` but not all delivered, or `delivered`: then the platform knows all of it."""
    if attempt.attempt_id in held:
        return "running"
    if not attempt.started():
        return "waiting"
    # An attempt without an end has lost its keeper; the agent will write its end.
    return "delivered" if attempt.told() and attempt.shipped() else "over"


def _held(folder: StateFolder) -> set[str]:
    return {str(status["attempt_id"]) for status in keeper_client.held(folder.keepers).values()}


def _bytes(path: Path) -> int:
    """Of a file, or of everything below a folder; links count as themselves."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            return sum(_bytes(Path(entry.path)) for entry in entries)
    return 0


# ---- pruning


@dataclass(frozen=True, slots=True)
class Prunable:
    """What can go of one attempt."""

    attempt_id: str
    paths: tuple[Path, ...]
    bytes: int
    # Best and last checkpoints among `paths`; none unless they were asked for.
    precious: tuple[str, ...]


def prunable(folder: StateFolder, *, checkpoints: bool) -> list[Prunable]:
    """What can go of attempts that are over, of which the platform knows everything; best and last checkpoints only
    with `checkpoints`.

    The record that an attempt ran (its phase and facts, a few KiB) always stays: it keeps the attempt from ever being
    started again.
    """
    held = _held(folder)
    found = []
    for attempt in all_attempts(folder.attempts):
        if state_of(attempt, held) != "delivered":
            continue
        saved = attempt.path / "checkpoints"
        names = sorted(path.name for path in saved.iterdir()) if saved.is_dir() else []
        kept = precious(attempt.facts(), names)
        gone = [name for name in names if checkpoints or name not in kept]
        paths = [path for path in (attempt.spool,) if path.exists()] + [saved / name for name in gone]
        if paths:
            lost = tuple(name for name in gone if name in kept)
            found.append(Prunable(attempt.attempt_id, tuple(paths), sum(_bytes(path) for path in paths), lost))
    return found


def precious(facts: Sequence[Fact], names: Sequence[str]) -> frozenset[str]:
    """Names of the best and the last checkpoint, and of files that no fact tells of. Pure.

    Half-written files, whose names begin with a dot, are nothing worth.
    """
    told = [fact.content["checkpoint"] for fact in facts if isinstance(fact.content.get("checkpoint"), dict)]
    known = {str(one.get("name", "")) for one in told}
    best = [str(one.get("name", "")) for one in told if one.get("best")]
    last = [str(one.get("name", "")) for one in told]
    unknown = [name for name in names if name not in known and not name.startswith(".")]
    return frozenset([*best[-1:], *last[-1:], *unknown])


def prune(items: Sequence[Prunable]) -> tuple[int, list[str]]:
    """Remove it. Returns the bytes that are gone, and a sentence for each thing that could not be removed."""
    freed_bytes, problems = 0, []
    for path in (path for item in items for path in item.paths):
        size_bytes = _bytes(path)
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        except OSError as error:
            problems.append(f"cannot remove {path}: {error.strerror}")
        freed_bytes += size_bytes - _bytes(path)
    return freed_bytes, problems
