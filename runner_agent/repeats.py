"""Which attempts on a box may still be gone on from: their checkpoints must stay. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

# Ends after which the platform may give the job another attempt on this box.
_REPEATED = frozenset({"END_REASON_INFRASTRUCTURE", "END_REASON_HOST_REBOOTED"})
# The platform ends a job that has waited for its repeat for a day; an hour more for clocks that differ.
_WAITS_MS = 25 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Seen:
    """An attempt as it lies on the box."""

    attempt_id: str
    job_id: str
    # Of the job, as it was submitted.
    retries: int
    ended: bool
    reason: str
    # The box's wall clock, Unix milliseconds; only where it has ended.
    ended_at_ms: int


def needed(attempts: Sequence[Seen], now_ms: int) -> frozenset[str]:
    """Ids of attempts whose job goes on, or may go on, from what they have saved. `attempts` are oldest first."""
    of_job: dict[str, list[Seen]] = {}
    for one in attempts:
        of_job.setdefault(one.job_id, []).append(one)
    return frozenset(one.attempt_id for job in of_job.values() if _goes_on(job, now_ms) for one in job)


def _goes_on(job: Sequence[Seen], now_ms: int) -> bool:
    newest = job[-1]
    if not newest.ended:
        return True
    waits = newest.reason in _REPEATED and len(job) <= newest.retries
    return waits and now_ms - newest.ended_at_ms < _WAITS_MS
