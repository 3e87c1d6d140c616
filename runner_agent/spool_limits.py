"""Grants each attempt its share of what a runner may spool; the writers of the spools keep to it (`spool_budget`)."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runner_agent import spool_budget


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Bytes that one attempt, and all attempts of the runner together, may spool."""

    attempt_bytes: int
    box_bytes: int

    def grant(self, spool: Path, others: Iterable[Path]) -> None:
        """Tell the writers of the attempt with this folder of spools how much it may take beside the others'."""
        held_bytes = sum(spool_budget.used_bytes(other) for other in others)
        # Without the file the writers keep to the default.
        with contextlib.suppress(OSError):
            spool_budget.write_limit(spool, spool_budget.granted_bytes(self.attempt_bytes, self.box_bytes, held_bytes))


def limits(folder: Path, attempt_bytes: int, box_bytes: int) -> SpoolLimits:
    """What is configured for the runner with this state folder; 0 stands for the default, which goes by the disk."""
    disk_bytes = spool_budget.disk_size(folder)
    return SpoolLimits(
        attempt_bytes or spool_budget.default_limit(spool_budget.ATTEMPT_DEFAULT, disk_bytes),
        box_bytes or spool_budget.default_limit(spool_budget.BOX_DEFAULT, disk_bytes),
    )
