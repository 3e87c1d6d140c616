"""Which checkpoints of an attempt the platform is to have, has, or will never take."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner_agent import files
from runner_agent.facts import Fact

RECORD_FILE = "uploads.json"
# All of it is with the platform, and nothing more comes.
DONE_FILE = "uploaded"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as a fact tells it."""

    name: str
    step: int
    bytes: int
    sha256: str
    best: bool


def wanted(facts: Sequence[Fact], settled: int) -> list[Checkpoint]:
    """Those that the platform knows of and the strategy keeps: the best first, then the newest. Pure.

    What is not acknowledged waits: the platform then learns of a checkpoint before it learns that it has its file.
    """
    kept: dict[str, Checkpoint] = {}
    for fact in facts:
        content = fact.content.get("checkpoint")
        if fact.sequence > settled or not isinstance(content, dict):
            continue
        found = _parsed(content)
        if found is not None:
            # Behind what has the name already.
            kept.pop(found.name, None)
            kept[found.name] = found
        for name in content.get("removed") or ():
            kept.pop(name, None)
    newest_first = list(reversed(kept.values()))
    best = next((one for one in newest_first if one.best), None)
    return sorted(newest_first, key=lambda one: one is not best)


def _parsed(content: dict[str, Any]) -> Checkpoint | None:
    """None for what cannot be sent: without a digest, or with a name that is no plain one."""
    try:
        found = Checkpoint(
            str(content["name"]),
            int(content["step"]),
            int(content["bytes"]),
            str(content["sha256"]),
            bool(content.get("best")),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.sha256 and NAME.fullmatch(found.name) else None


class UploadRecord:
    """`uploads.json` of an attempt: name → artifact id, or why the file will never be taken.

    It is there from the attempt's adoption on, where the box uploads. Losing it costs a question for each file.
    """

    def __init__(self, attempt: Path) -> None:
        self._path = attempt / RECORD_FILE
        content = files.read_json(self._path) or {}
        self.stored: dict[str, str] = dict(content.get("stored") or {})
        self.refused: dict[str, str] = dict(content.get("refused") or {})

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def save(self) -> None:
        """Raises OSError."""
        content = {"stored": self.stored, "refused": self.refused}
        files.replace(self._path, json.dumps(content).encode(), durable=False)

    def settles(self, name: str) -> bool:
        return name in self.stored or name in self.refused


def waiting(attempt: Path, facts: Sequence[Fact]) -> list[str]:
    """Names of checkpoints on the box that are still to be sent, where the box sends them."""
    record = UploadRecord(attempt)
    if not record.exists:
        return []
    names = [one.name for one in wanted(facts, len(facts)) if not record.settles(one.name)]
    return [name for name in names if (attempt / "checkpoints" / name).exists()]
