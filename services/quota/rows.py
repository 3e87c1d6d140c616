"""An attempt as a row of the table `attempts`, there and back without loss."""

import json
from functools import lru_cache
from typing import Any, NamedTuple

from protos.training.v1.training_pb2 import EndReason
from services.postgres import Record
from services.quota.domain.attempt import Assigned, Attempt, Interval, Link, Outcome, Started
from services.quota.domain.breakdown import Gpus
from services.quota.domain.spans import node_of

# Column and its array type, in the order of `row_of`.
COLUMNS = {
    "attempt_id": "text",
    "workspace_id": "text",
    "job_id": "text",
    "assigned_position": "bigint",
    "runner_id": "text",
    "runner_name": "text",
    "rate_micros": "bigint",
    "simulated": "boolean",
    "started_position": "bigint",
    "started_at_ms": "bigint",
    "link_position": "bigint",
    "deadline_at_ms": "bigint",
    "outcome_position": "bigint",
    "corrected": "boolean",
    "charged_from_ms": "bigint",
    "charged_until_ms": "bigint",
    "ended_at_ms": "bigint",
    "presumed": "boolean",
    "reason": "int",
    "gpus": "text",
    "ended_position": "bigint",
    "span_node": "bigint",
}


class Beside(NamedTuple):
    """What a row holds besides: its charge does not depend on it."""

    # JSON: product name → sum of multipliers, millionths; empty: not told.
    gpus: str
    # Of the first outcome; zero: not known.
    ended_position: int


# Of an attempt of which it was not told.
NOTHING = Beside("", 0)

_NOT_ASSIGNED = Assigned(0, "", "", 0, False)
_NOT_STARTED = Started(0, 0)
_NEVER_CUT_OFF = Link(0, 0)
_NOT_ENDED = Outcome(0, False, Interval(0, 0, 0, False), EndReason.END_REASON_UNSPECIFIED)


def row_of(attempt_id: str, attempt: Attempt, beside: Beside = NOTHING) -> tuple[Any, ...]:
    started = attempt.started or _NOT_STARTED
    position, corrected, interval, reason = attempt.outcome or _NOT_ENDED
    return (
        attempt_id,
        attempt.workspace_id,
        attempt.job_id,
        *(attempt.assigned or _NOT_ASSIGNED),
        *started,
        *(attempt.link or _NEVER_CUT_OFF),
        position,
        corrected,
        *interval,
        reason,
        *beside,
        node_of(started.position, beside.ended_position),
    )


def beside_of(row: Record) -> Beside:
    return Beside(row["gpus"], row["ended_position"])


@lru_cache(maxsize=4096)
def gpus_of(column: str) -> Gpus:
    """The column `gpus`; a fleet has few kinds of boxes."""
    return tuple(json.loads(column).items()) if column else ()


def attempt_of(row: Record) -> Attempt:
    return Attempt(
        row["workspace_id"],
        row["job_id"],
        Assigned(row["assigned_position"], row["runner_id"], row["runner_name"], row["rate_micros"], row["simulated"])
        if row["assigned_position"]
        else None,
        Started(row["started_position"], row["started_at_ms"]) if row["started_position"] else None,
        Link(row["link_position"], row["deadline_at_ms"]) if row["link_position"] else None,
        Outcome(
            row["outcome_position"],
            row["corrected"],
            Interval(row["charged_from_ms"], row["charged_until_ms"], row["ended_at_ms"], row["presumed"]),
            row["reason"],
        )
        if row["outcome_position"]
        else None,
    )
