"""What was not kept on the box for lack of room, counted, so that it is told. Pure; standard library only."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LOG_LINES, SAMPLES, POINTS, EVALUATIONS = "log lines", "system samples", "metric points", "evaluations"
PREVIEWS = "previews"
KINDS = (PREVIEWS, LOG_LINES, SAMPLES, POINTS, EVALUATIONS)
# Why: the spool's own limit, or a disk that took no more.
SPOOL_FULL, DISK_FULL = "spool", "disk"
GIB = 1024**3
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Loss:
    """Records of one kind that were dropped; moments are the box's wall clock in Unix milliseconds."""

    kind: str
    count: int
    from_ms: int
    to_ms: int
    cause: str

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kind", "count", "from_ms", "to_ms", "cause")}


def parse(content: dict[str, Any]) -> Loss:
    """Raises KeyError, TypeError or ValueError for what is no loss."""
    kind, cause = str(content["kind"]), str(content["cause"])
    if kind not in KINDS or cause not in (SPOOL_FULL, DISK_FULL):
        raise ValueError(f"{kind!r} dropped because of {cause!r} is unknown")
    return Loss(kind, int(content["count"]), int(content["from_ms"]), int(content["to_ms"]), cause)


@dataclass
class Losses:
    """Losses until they are told; at most one entry for each kind and cause."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    from_ms: int = 0
    to_ms: int = 0

    def __bool__(self) -> bool:
        return bool(self.counts)

    def add(self, loss: Loss) -> None:
        if loss.count <= 0:
            return
        self.from_ms = min(self.from_ms, loss.from_ms) if self.counts else loss.from_ms
        self.to_ms = max(self.to_ms, loss.to_ms) if self.counts else loss.to_ms
        key = (loss.kind, loss.cause)
        self.counts[key] = self.counts.get(key, 0) + loss.count

    def take(self) -> list[Loss]:
        """All of them, which are forgotten here."""
        found = [Loss(kind, count, self.from_ms, self.to_ms, cause) for (kind, cause), count in self.counts.items()]
        self.counts.clear()
        return found

    def total(self) -> dict[str, int]:
        """Kind → how many, whatever the cause; in the order of `KINDS`."""
        found: dict[str, int] = {}
        for kind in KINDS:
            count = sum(number for (of, _), number in self.counts.items() if of == kind)
            if count:
                found[kind] = count
        return found

    def sentence(self, limit_bytes: int) -> str:
        """One line for people: what, when (UTC) and why."""
        what = listed(self.total())
        causes = {cause for _, cause in self.counts}
        why = [f"its spool of {size(limit_bytes)} was full"] if SPOOL_FULL in causes else []
        why += ["its disk was full or failed"] if DISK_FULL in causes else []
        return f"warning: {what} of {_span(self.from_ms, self.to_ms)} were dropped on the box: {', and '.join(why)}"


def listed(counts: Mapping[str, int]) -> str:
    """Kinds with their numbers, for people."""
    return " and ".join(f"{count:,} {kind if count > 1 else kind[:-1]}" for kind, count in counts.items())


def size(amount_bytes: int) -> str:
    if amount_bytes >= GIB:
        return f"{amount_bytes / GIB:.3g} GiB"
    return f"{amount_bytes / MIB:.3g} MiB"


def _span(from_ms: int, to_ms: int) -> str:
    begin, end = (time.strftime("%H:%M", time.gmtime(at_ms / 1000)) for at_ms in (from_ms, to_ms))
    return f"{begin} UTC" if begin == end else f"{begin}–{end} UTC"
