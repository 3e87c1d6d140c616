"""When a runner that stops after its training may stop. Pure but for `version_of`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner_agent.suspension import DRAINING

# A directive may have been under way when the platform was told that no new training is accepted.
SETTLE_NS = 1_000_000_000

NO_STATUS = (0, 0)


@dataclass(frozen=True, slots=True)
class Drain:
    """Since when the runner has had nothing to do, as the looks at it have shown."""

    idle_since_ns: int | None = None

    def seen(self, status: dict[str, Any] | None, held: bool, now_ns: int) -> "Drain":
        """One more look. `status`: what the present agent wrote, None before it has; `held`: a keeper has an attempt.

        An agent that is not connected is given nothing new; but while there is something to tell it waits for the
        platform.
        """
        if status is None or held or not self._told(status):
            return Drain()
        return self if self.idle_since_ns is not None else Drain(now_ns)

    def done(self, now_ns: int) -> bool:
        return self.idle_since_ns is not None and now_ns - self.idle_since_ns >= SETTLE_NS

    @staticmethod
    def _told(status: dict[str, Any]) -> bool:
        if status.get("attempt") is not None or status.get("unreported") or status.get("unshipped_bytes"):
            return False
        if not status.get("connected"):
            return True
        known = status.get("suspensions", {}).get("box_owner") == DRAINING
        return known and bool(status.get("suspensions_told"))


def version_of(path: Path) -> tuple[int, int]:
    """Differs after every replacement of the file."""
    try:
        found = path.stat()
    except OSError:
        return NO_STATUS
    return found.st_ino, found.st_mtime_ns
