"""An attempt as it lies on the box's disk: the rules of `runner_agent.attempts`, in memory."""

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from protos.scheduler.v1 import session_pb2 as pb
from runner_agent.attempts import end_fact, lost_end, most_exact
from runner_agent.facts import Fact
from runner_agent.session_messages import Attempt, Place


class DiskFull(Exception):
    pass


@dataclass
class Folder:
    """`attempts/<attempt_id>/`."""

    assignment: pb.Assignment
    phase: dict[str, Any] | None = None
    stamp: dict[str, Any] = field(default_factory=dict)
    facts: list[dict[str, Any]] = field(default_factory=list)
    outcome: dict[str, Any] | None = None
    settled: int = 0
    # Records that the trainer has written, and those that the platform has acknowledged.
    spooled: int = 0
    acknowledged: int = 0
    adopted: bool = False

    @property
    def attempt_id(self) -> str:
        return self.assignment.attempt_id

    @property
    def started(self) -> bool:
        return self.phase is not None

    @property
    def ended(self) -> bool:
        return any(fact["fact"] == "ended" for fact in self.facts)

    @property
    def told(self) -> bool:
        return bool(self.facts) and self.facts[-1]["fact"] == "ended" and self.settled >= len(self.facts)

    def facts_after(self, after: int) -> tuple[Fact, ...]:
        return tuple(Fact(number, fact) for number, fact in enumerate(self.facts, 1) if number > after)

    def append(self, fact: dict[str, Any]) -> None:
        # As a file would have it: what is written does not change with the object.
        self.facts.append(json.loads(json.dumps(fact)))

    def record(self, window_ns: int, *, again: bool = False) -> Attempt:
        facts = self.facts_after(0)
        settled = min(self.settled, len(facts) - 1 if again and facts else len(facts))
        return Attempt(
            attempt_id=self.attempt_id,
            job_id=self.assignment.job_id,
            window_ns=self.assignment.window_ms * 1_000_000 or window_ns,
            place=Place.GONE if self.started else Place.WAITING,
            facts=facts[settled:],
            read=len(facts),
            sent=settled,
            settled=settled,
            old_anchor=most_exact([self.stamp, self.phase or {}]),
            boot_id=str((self.phase or {}).get("boot_id", "")),
        )

    def write_end(self, boot_id: str, now_ns: int, outcome: str, reason: str, message: str) -> None:
        if not self.started:
            self.phase = {"phase": "ended", "attempt_id": self.attempt_id, "boot_id": boot_id}
        self.append(end_fact(boot_id, now_ns, outcome, reason, message))

    def write_lost_end(self, boot_id: str, now_ns: int) -> None:
        if self.outcome is None:
            self.outcome = lost_end(copy.deepcopy(self.phase or {}), dict(self.stamp), boot_id, now_ns)
        self.append(self.outcome)
