"""What a runner's state folder uses, and what can go: spools, checkpoints and inputs of attempts that are over."""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner_agent import clock, files, keeper_client, losses, repeats, spool_budget, uploads
from runner_agent.attempts import INPUTS, AttemptFolder, all_attempts
from runner_agent.config import StateFolder
from runner_agent.facts import Fact
from runner_agent.keeper_log import DROPPED_FILE

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
    # What it began with, where that was fetched from the platform.
    input_bytes: int
    other_bytes: int
    # What its spools may take, and what had no room, by kind.
    spool_limit_bytes: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        return self.spool_bytes + self.log_bytes + self.checkpoint_bytes + self.input_bytes + self.other_bytes


@dataclass(frozen=True, slots=True)
class DiskUse:
    attempts: tuple[AttemptUse, ...]
    # Logs of launcher and agent.
    log_bytes: int
    other_bytes: int
    free_bytes: int
    # Datasets that were fetched from URLs.
    dataset_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        own_bytes = self.log_bytes + self.other_bytes + self.dataset_bytes
        return sum(one.total_bytes for one in self.attempts) + own_bytes


def use(folder: StateFolder) -> DiskUse:
    """How much lies where. Files that vanish meanwhile do not count."""
    held = _held(folder)
    attempts = tuple(_use(one, held) for one in all_attempts(folder.attempts))
    logs = [*folder.root.glob("*.log"), *folder.root.glob("*.log.*")]
    log_bytes = sum(_bytes(path) for path in logs)
    apart = {folder.attempts, folder.datasets, *logs}
    other_bytes = sum(_bytes(path) for path in folder.root.iterdir() if path not in apart)
    free_bytes = shutil.disk_usage(folder.root).free
    return DiskUse(attempts, log_bytes, other_bytes, free_bytes, _bytes(folder.datasets))


def use_as_json(found: DiskUse) -> dict[str, Any]:
    return {
        "attempts": [{**asdict(one), "total_bytes": one.total_bytes} for one in found.attempts],
        "log_bytes": found.log_bytes,
        "dataset_bytes": found.dataset_bytes,
        "other_bytes": found.other_bytes,
        "total_bytes": found.total_bytes,
        "free_bytes": found.free_bytes,
    }


def _use(attempt: AttemptFolder, held: set[str]) -> AttemptUse:
    spool, log = _bytes(attempt.spool), _bytes(attempt.spool / LOG_SPOOL)
    checkpoints, inputs = _bytes(attempt.path / "checkpoints"), _bytes(attempt.path / INPUTS)
    return AttemptUse(
        attempt.attempt_id,
        attempt.assignment().job_id,
        state_of(attempt, held),
        spool_bytes=spool - log,
        log_bytes=log,
        checkpoint_bytes=checkpoints,
        input_bytes=inputs,
        other_bytes=_bytes(attempt.path) - spool - checkpoints - inputs,
        spool_limit_bytes=spool_budget.read_limit(attempt.spool),
        dropped=_dropped(attempt),
    )


def _dropped(attempt: AttemptFolder) -> dict[str, int]:
    found = (files.read_json(attempt.spool / DROPPED_FILE) or {}).get("dropped")
    return {str(kind): int(count) for kind, count in found.items()} if isinstance(found, dict) else {}


def warnings(found: DiskUse) -> list[str]:
    """A sentence for each attempt whose spools had no room for all of it."""
    return [
        f"{one.attempt_id}: {losses.listed(one.dropped)} had no room in its spool of "
        f"{losses.size(one.spool_limit_bytes)} and were dropped"
        for one in found.attempts
        if one.dropped
    ]


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
    """Of a file, or of everything below a folder; links count as themselves, what was given back not at all."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            return spool_budget.bytes_on_disk(path)
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
    """What can go of attempts that are over, of which the platform knows everything; best and last checkpoints, and
    those that wait for their upload, only with `checkpoints`, and never those from which a repeat of the job may go on.

    What was fetched for an attempt goes with its spools: it is the platform's, and nothing else reads it here.
    The record that an attempt ran (its phase and facts, a few KiB) always stays: it keeps the attempt from ever being
    started again.
    """
    held = _held(folder)
    attempts = all_attempts(folder.attempts)
    needed = repeats.needed([_seen(one) for one in attempts], clock.wall_ms())
    found = []
    for attempt in attempts:
        if state_of(attempt, held) != "delivered":
            continue
        saved = attempt.path / "checkpoints"
        names = sorted(path.name for path in saved.iterdir()) if saved.is_dir() else []
        kept = precious(attempt.facts(), names)
        expendable = checkpoints and attempt.attempt_id not in needed
        # What is still to be sent to the platform stays, as spools do; the owner may give it up, as he may the best.
        kept |= frozenset(uploads.waiting(attempt.path, attempt.facts()))
        gone = [name for name in names if expendable or name not in kept]
        paths = [path for path in (attempt.spool, attempt.path / INPUTS) if path.exists()]
        paths += [saved / name for name in gone]
        if paths:
            lost = tuple(name for name in gone if name in kept)
            found.append(Prunable(attempt.attempt_id, tuple(paths), sum(_bytes(path) for path in paths), lost))
    return found


def _seen(attempt: AttemptFolder) -> repeats.Seen:
    assignment, facts = attempt.assignment(), attempt.facts()
    ended = facts[-1] if facts and facts[-1].ended else None
    return repeats.Seen(
        attempt.attempt_id,
        assignment.job_id,
        assignment.spec.limits.retries,
        ended is not None,
        str(ended.content.get("reason", "")) if ended is not None else "",
        int((attempt.path / "facts.jsonl").stat().st_mtime * 1000) if facts else 0,
    )


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
