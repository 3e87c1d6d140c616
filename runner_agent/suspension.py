"""The box owner's suspension: a small file in the state folder, so that it outlasts every process and a reboot.

The same file says whether the runner stops after its training: it takes no new one then, which is a suspension too,
and an own suspension from before stands again when that is taken back.

A suspension's end is kept twice. In the boot in which it was made CLOCK_BOOTTIME decides, so that a changed wall clock
neither lengthens nor shortens it. After a reboot only the wall clock is left; a clock that was set back meanwhile (a
dead battery, say) cannot make it last longer than it was asked for, counted anew.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner_agent import files
from runner_agent.errors import BoxError

NO_REASON = "suspended on the box by its owner"
DRAINING = "stops after its training"
DAMAGED = "the file of the suspension on the box cannot be read; lift it with `tether-runner resume`"
LONGEST_REASON = 200
LONGEST_SPAN_S = 366 * 86_400
UNITS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")


@dataclass(frozen=True, slots=True)
class Now:
    """One moment on all clocks that count here."""

    boot_id: str
    boottime_ns: int
    wall_ms: int


@dataclass(frozen=True, slots=True)
class End:
    """When a suspension ends by itself."""

    boot_id: str
    boottime_ns: int
    wall_ms: int
    # How long it was asked for.
    span_ms: int


@dataclass(frozen=True, slots=True)
class OwnerSuspension:
    reason: str
    # None: lasts until it is lifted.
    end: End | None = None

    def left_ms(self, now: Now) -> int | None:
        """Milliseconds until it ends by itself, at most what was asked for; 0 where it is over, None without an end."""
        if self.end is None:
            return None
        if self.end.boot_id == now.boot_id:
            # The last part of a millisecond counts as one, so that it never ends early.
            left_ms = -((now.boottime_ns - self.end.boottime_ns) // 1_000_000)
        else:
            left_ms = self.end.wall_ms - now.wall_ms
        return max(0, min(left_ms, self.end.span_ms))


def make(reason: str, span_s: int | None, now: Now) -> OwnerSuspension:
    """A suspension from now on. Raises BoxError for a reason that cannot be shown in one line."""
    text = reason.strip() or NO_REASON
    if len(text) > LONGEST_REASON or not text.isprintable():
        raise BoxError(f"--reason must be one line of at most {LONGEST_REASON} characters; shorten it")
    if span_s is None:
        return OwnerSuspension(text)
    span_ms = span_s * 1000
    end = End(now.boot_id, now.boottime_ns + span_ms * 1_000_000, now.wall_ms + span_ms, span_ms)
    return OwnerSuspension(text, end)


def parse_span_s(text: str) -> int:
    """Seconds of a span such as `90s`, `30m`, `2h`, `1d` or `1h30m`. Raises BoxError for anything else."""
    matched = _SPAN.fullmatch(text.strip())
    parts = matched.groups() if matched else ()
    span_s = sum(int(part) * unit_s for part, unit_s in zip(parts, UNITS_S.values(), strict=False) if part)
    if not 1 <= span_s <= LONGEST_SPAN_S:
        raise BoxError(f"--for {text!r} is not a span of 1s to 366d; write for example 30m, 2h or 1h30m")
    return span_s


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file holds."""

    # Its end may be past.
    own: OwnerSuspension | None = None
    # Whether the runner stops as soon as it trains nothing.
    draining: bool = False


def save(path: Path, suspension: OwnerSuspension) -> None:
    """Write it durably, in place of an earlier one. Raises BoxError where the disk does not take it."""
    _write(path, replace(read(path), own=suspension))


def drain(path: Path) -> None:
    """Note durably that the runner stops after its training. Raises BoxError where the disk does not take it."""
    _write(path, replace(read(path), draining=True))


def take_back_drain(path: Path) -> None:
    """An own suspension stands again. Raises BoxError where that cannot be written."""
    own = read(path).own
    if own is None:
        lift(path)
    else:
        _write(path, Kept(own))


def lift(path: Path) -> None:
    """Remove it, and the wish to stop with it. Raises BoxError where that cannot be done."""
    try:
        path.unlink(missing_ok=True)
        files.sync_folder(path.parent)
    except OSError as error:
        raise BoxError(f"cannot remove {path}: {error.strerror}; the runner stays suspended") from None


def read(path: Path) -> Kept:
    """What the file holds; nothing without a file.

    A file that cannot be read counts as a suspension without end: rather no training than one that is not wanted.
    """
    try:
        content = json.loads(path.read_bytes())
        draining = content.get("stops_after_training") is True
        own = None if draining and "reason" not in content else _own(content)
        return Kept(own, draining)
    except FileNotFoundError:
        return Kept()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Kept(OwnerSuspension(DAMAGED))


def current(path: Path, now: Now) -> OwnerSuspension | None:
    """What suspends the runner for its owner now, if anything does: the wish to stop goes before a suspension."""
    kept = read(path)
    if kept.draining:
        return OwnerSuspension(DRAINING)
    return None if kept.own is None or kept.own.left_ms(now) == 0 else kept.own


def _own(content: dict[str, Any]) -> OwnerSuspension:
    until = content.get("until")
    end = None
    if until is not None:
        numbers = [int(until[name]) for name in ("boottime_ns", "wall_ms", "span_ms")]
        end = End(str(until["boot_id"]), *numbers)
    return OwnerSuspension(str(content["reason"]), end)


def _write(path: Path, kept: Kept) -> None:
    content: dict[str, Any] = {"stops_after_training": True} if kept.draining else {}
    if kept.own is not None:
        content["reason"] = kept.own.reason
        if (end := kept.own.end) is not None:
            content["until"] = {
                "boot_id": end.boot_id,
                "boottime_ns": end.boottime_ns,
                "wall_ms": end.wall_ms,
                "span_ms": end.span_ms,
            }
    try:
        files.replace(path, json.dumps(content).encode() + b"\n")
    except OSError as error:
        raise BoxError(f"cannot write {path}: {error.strerror}; nothing was changed") from None
