"""What one attempt costs, as the log tells it.

Each kind of fact has one place, and which of two facts of a kind holds depends on their positions only. So the state
is the same in whatever order the facts arrive, and however often.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from protos.events.v1.job_pb2 import (
    ChargedInterval,
    JobAssigned,
    JobFailed,
    JobFinished,
    JobKilled,
    JobOutcomeCorrected,
    JobReachable,
    JobStarted,
    JobUnreachable,
)
from protos.training.v1.training_pb2 import EndReason
from services.quota.domain.minutes import END_OF_TIME_MS, by_period

AttemptEvent: TypeAlias = (
    JobAssigned | JobStarted | JobUnreachable | JobReachable | JobFinished | JobFailed | JobKilled | JobOutcomeCorrected
)

# The lookup by name is slow, and this is looked up for every training that ends.
_NO_REASON = EndReason.END_REASON_UNSPECIFIED


class Assigned(NamedTuple):
    """A runner was chosen, and with it the rate. The first one holds."""

    position: int
    runner_id: str
    runner_name: str
    rate_micros: int
    simulated: bool


class Started(NamedTuple):
    """The training process runs. The first one holds."""

    position: int
    at_ms: int


class Link(NamedTuple):
    """Whether the runner is reachable. The last one holds."""

    position: int
    # The training ends itself at this moment at the latest; zero: the runner is reachable.
    deadline_at_ms: int


class Interval(NamedTuple):
    """What is charged: from start to `charged_until`, nothing where the start is zero. Unix milliseconds."""

    started_at_ms: int
    charged_until_ms: int
    # End of the process, the free grace included; zero while it runs.
    ended_at_ms: int
    # The end is not known from the box but follows from the window.
    presumed: bool


class Outcome(NamedTuple):
    """How it ended. The first one holds, until the box tells the truth: then the last correction does."""

    position: int
    corrected: bool
    interval: Interval
    reason: EndReason.ValueType


class Attempt(NamedTuple):
    """All that the charge depends on. `evolve` it from `unknown(…)`."""

    workspace_id: str
    job_id: str
    assigned: Assigned | None
    started: Started | None
    link: Link | None
    outcome: Outcome | None

    @property
    def rate_micros(self) -> int:
        """Zero as long as the assignment is not known."""
        return self.assigned.rate_micros if self.assigned is not None else 0

    @property
    def running(self) -> bool:
        """It accrues."""
        return self.started is not None and self.outcome is None


def unknown(workspace_id: str, job_id: str) -> Attempt:
    """An attempt of which nothing was heard."""
    return Attempt(workspace_id, job_id, None, None, None, None)


def evolve(attempt: Attempt, event: AttemptEvent, position: int) -> Attempt:
    """The attempt after one more fact. Never refuses; insensitive to order and repetition."""
    return _EVOLVE[type(event)](attempt, event, position)


def _assigned(attempt: Attempt, event: JobAssigned, position: int) -> Attempt:
    workspace_id, job_id, known, started, link, outcome = attempt
    if known is not None and known.position <= position:
        return attempt
    rate_micros = max(event.rate_micros, 0)
    assigned = Assigned(position, event.runner_id, event.runner_name, rate_micros, event.simulated)
    return Attempt(workspace_id, job_id, assigned, started, link, outcome)


def _started(attempt: Attempt, event: JobStarted, position: int) -> Attempt:
    workspace_id, job_id, assigned, known, link, outcome = attempt
    if known is not None and known.position <= position:
        return attempt
    started = Started(position, _moment(event.started_at_ms))
    return Attempt(workspace_id, job_id, assigned, started, link, outcome)


def _unreachable(attempt: Attempt, event: JobUnreachable, position: int) -> Attempt:
    return _linked(attempt, Link(position, _moment(event.deadline_at_ms)))


def _reachable(attempt: Attempt, _event: JobReachable, position: int) -> Attempt:
    return _linked(attempt, Link(position, 0))


def _finished(attempt: Attempt, event: JobFinished, position: int) -> Attempt:
    return _ended(attempt, position, False, event.interval, _NO_REASON)


def _failed(attempt: Attempt, event: JobFailed | JobKilled, position: int) -> Attempt:
    return _ended(attempt, position, False, event.interval, event.reason)


def _corrected(attempt: Attempt, event: JobOutcomeCorrected, position: int) -> Attempt:
    return _ended(attempt, position, True, event.interval, _corrected_reason(event))


# By class: a replay asks this for each event of the log.
_EVOLVE: Mapping[type, Callable[[Attempt, Any, int], Attempt]] = {
    JobAssigned: _assigned,
    JobStarted: _started,
    JobUnreachable: _unreachable,
    JobReachable: _reachable,
    JobFinished: _finished,
    JobFailed: _failed,
    JobKilled: _failed,
    JobOutcomeCorrected: _corrected,
}


def interval(attempt: Attempt, now_ms: int) -> Interval:
    """The interval as it is known at `now_ms`: a running attempt accrues to now, cut off to its deadline at most."""
    if attempt.outcome is not None:
        return attempt.outcome.interval
    if attempt.started is None:
        return Interval(0, 0, 0, False)
    until_ms = _moment(now_ms)
    if attempt.link is not None and attempt.link.deadline_at_ms:
        until_ms = min(until_ms, attempt.link.deadline_at_ms)
    return Interval(attempt.started.at_ms, max(until_ms, attempt.started.at_ms), 0, False)


def charge(attempt: Attempt, now_ms: int) -> int:
    """What it costs as known at `now_ms`, in ms × millionths; never negative."""
    known = interval(attempt, now_ms)
    if not known.started_at_ms:
        return 0
    return max(known.charged_until_ms - known.started_at_ms, 0) * attempt.rate_micros


def charge_by_period(attempt: Attempt, now_ms: int) -> dict[str, int]:
    """`charge`, split at the month boundaries (UTC). Without the months in which it costs nothing."""
    known, rate_micros = interval(attempt, now_ms), attempt.rate_micros
    if not known.started_at_ms or not rate_micros:
        return {}
    return by_period(known.started_at_ms, known.charged_until_ms, rate_micros)


def settled_by_period(attempt: Attempt) -> dict[str, int]:
    """`charge_by_period` of an attempt that has ended; nothing as long as it has not."""
    return charge_by_period(attempt, 0) if attempt.outcome is not None else {}


def _moment(at_ms: int) -> int:
    return at_ms if 0 <= at_ms <= END_OF_TIME_MS else min(max(at_ms, 0), END_OF_TIME_MS)


def _linked(attempt: Attempt, link: Link) -> Attempt:
    workspace_id, job_id, assigned, started, known, outcome = attempt
    if known is not None and known.position >= link.position:
        return attempt
    return Attempt(workspace_id, job_id, assigned, started, link, outcome)


def _ended(
    attempt: Attempt, position: int, corrected: bool, charged: ChargedInterval, reason: EndReason.ValueType
) -> Attempt:
    workspace_id, job_id, assigned, started, link, known = attempt
    if known is not None and not _overrides(position, corrected, known):
        return attempt
    heard = Interval(
        _moment(charged.started_at_ms),
        _moment(charged.charged_until_ms),
        _moment(charged.ended_at_ms),
        charged.presumed,
    )
    outcome = Outcome(position, corrected, heard, reason)
    return Attempt(workspace_id, job_id, assigned, started, link, outcome)


def _overrides(position: int, corrected: bool, known: Outcome) -> bool:
    if corrected != known.corrected:
        return corrected
    return position > known.position if corrected else position < known.position


def _corrected_reason(event: JobOutcomeCorrected) -> EndReason.ValueType:
    kind = event.WhichOneof("outcome")
    if kind == "failed":
        return event.failed.reason
    if kind == "killed":
        return event.killed.reason
    return _NO_REASON
