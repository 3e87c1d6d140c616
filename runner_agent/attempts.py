"""Attempts as they lie on disk: one folder each, which survives every process of the box."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError

from protos.scheduler.v1 import session_pb2
from runner_agent import files
from runner_agent.facts import Fact
from runner_agent.keeper_files import RESERVE
from runner_agent.keeper_messages import Anchor
from runner_agent.session_messages import Attempt, Place

# Below an attempt's folder: the checkpoint that it began with, where it was fetched.
INPUTS = "inputs"
ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,100}")


class AttemptFolder:
    """`attempts/<attempt_id>/`. Raises ValueError for an id that is no plain name."""

    def __init__(self, attempts: Path, attempt_id: str) -> None:
        if not ID_PATTERN.fullmatch(attempt_id):
            raise ValueError(f"{attempt_id!r} is not an attempt id")
        self.attempt_id = attempt_id
        self.path = attempts / attempt_id
        self.spool = self.path / "spool"

    # ---- making and reading

    def make(self, assignment: session_pb2.Assignment) -> None:
        """Make the folder with what the trainer needs, if it is not there. Raises OSError."""
        if (self.path / "assignment.pb").exists():
            return
        for folder in (self.spool, self.path / "checkpoints"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        as_json = MessageToJson(assignment, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        # Durable is only what the keeper writes: an attempt without its phase file was never started.
        files.replace(self.path / "assignment.json", as_json.encode(), durable=False)
        files.replace(self.path / "assignment.pb", assignment.SerializeToString(), durable=False)

    def assignment(self) -> session_pb2.Assignment:
        """What was assigned; only the ids where a power cut has taken the rest."""
        assignment = session_pb2.Assignment()
        try:
            assignment.ParseFromString((self.path / "assignment.pb").read_bytes())
        except (OSError, DecodeError):
            assignment.Clear()
        if not assignment.job_id:
            assignment.job_id = str(self.phase().get("job_id", ""))
        assignment.attempt_id = self.attempt_id
        return assignment

    def started(self) -> bool:
        """Whether a keeper has ever taken it; it must not be started again then."""
        return (self.path / "phase.json").exists()

    def phase(self) -> dict[str, Any]:
        return files.read_json(self.path / "phase.json") or {}

    def alive_stamp(self) -> dict[str, Any]:
        return files.read_json(self.path / "alive") or {}

    def facts(self, after: int = 0) -> tuple[Fact, ...]:
        lines = files.read_json_lines(self.path / "facts.jsonl")
        return tuple(Fact(number, line) for number, line in enumerate(lines, 1) if number > after)

    def has_ended(self) -> bool:
        return any(fact.ended for fact in self.facts())

    # ---- what is settled

    def settled(self) -> int:
        """Every fact up to here is acknowledged."""
        return int((files.read_json(self.path / "reported.json") or {}).get("sequence", 0))

    def save_settled(self, sequence: int) -> None:
        files.replace(self.path / "reported.json", json.dumps({"sequence": sequence}).encode(), durable=False)

    def told(self) -> bool:
        """Whether the platform knows everything about the attempt."""
        return all_told(self.facts(), self.settled())

    def shipped(self) -> bool:
        return (self.path / "shipped").exists()

    def save_shipped(self) -> None:
        (self.path / "shipped").touch()

    # ---- for the session

    def record(self, window_ns: int, *, again: bool = False) -> Attempt:
        """The attempt for the session. `again`: its last fact is told once more, even where it is settled."""
        facts = self.facts()
        settled = min(self.settled(), len(facts) - 1 if again and facts else len(facts))
        place = Place.GONE if self.started() else Place.WAITING
        assignment = self.assignment()
        return Attempt(
            attempt_id=self.attempt_id,
            job_id=assignment.job_id,
            window_ns=assignment.window_ms * 1_000_000 or window_ns,
            place=place,
            facts=facts[settled:],
            read=len(facts),
            sent=settled,
            settled=settled,
            old_anchor=self.old_anchor(),
            boot_id=str(self.phase().get("boot_id", "")),
        )

    def old_anchor(self) -> Anchor | None:
        """The most exact anchor that the attempt's own boot has left."""
        return most_exact([self.alive_stamp(), self.phase()])

    def write_facts(self, facts: Iterable[Fact]) -> None:
        """Append facts that a keeper could not write any more, without those that are there. Raises OSError."""
        written = len(self.facts())
        for fact in facts:
            if fact.sequence == written + 1:
                files.append(self.path / "facts.jsonl", json.dumps(fact.content).encode() + b"\n")
                written += 1

    def give_up_reserve(self) -> bool:
        """Give back what the keeper had set aside for the end; True where there was something."""
        try:
            (self.path / RESERVE).unlink()
        except OSError:
            return False
        return True

    # ---- ends that no keeper has written

    def write_end(self, boot_id: str, now_ns: int, outcome: str, reason: str, message: str) -> None:
        """End an attempt that was never started; it cannot be started any more. Raises OSError."""
        fact = end_fact(boot_id, now_ns, outcome, reason, message)
        if not self.started():
            phase = {"phase": "ended", "attempt_id": self.attempt_id, "boot_id": boot_id}
            files.create_once(self.path / "phase.json", json.dumps(phase).encode())
        files.append(self.path / "facts.jsonl", json.dumps(fact).encode() + b"\n")

    def lost_end(self, boot_id: str, now_ns: int) -> dict[str, Any]:
        """The end of an attempt whose keeper has died: what it has left as outcome, or what its signs of life say."""
        outcome = files.read_json(self.path / "outcome.json")
        return outcome if outcome is not None else lost_end(self.phase(), self.alive_stamp(), boot_id, now_ns)

    def write_lost_end(self, boot_id: str, now_ns: int) -> None:
        """End an attempt whose keeper has died without writing its end. Raises OSError."""
        outcome = self.lost_end(boot_id, now_ns)
        if not (self.path / "outcome.json").exists():
            files.replace(self.path / "outcome.json", json.dumps(outcome).encode())
        files.append(self.path / "facts.jsonl", json.dumps(outcome).encode() + b"\n")


def all_told(facts: Sequence[Fact], settled: int) -> bool:
    """Whether the platform knows everything of an attempt with these facts, settled up to this one. Pure."""
    return bool(facts) and facts[-1].ended and settled >= facts[-1].sequence


def most_exact(sources: Sequence[dict[str, Any]]) -> Anchor | None:
    """The anchor of those that were written down which tells platform time most exactly. Pure."""
    anchors = [
        Anchor(
            int(source["anchor_at_ms"]),
            int(source["anchor_boottime_ns"]),
            int(source.get("anchor_uncertainty_ns", 0)),
        )
        for source in sources
        if "anchor_at_ms" in source
    ]
    return min(anchors, key=lambda one: one.uncertainty_ns, default=None)


def lost_end(phase: dict[str, Any], stamp: dict[str, Any], boot_id: str, now_ns: int) -> dict[str, Any]:
    """The end of an attempt whose keeper is gone: its last sign of life, or the stop that had begun.

    Pure. A box that has rebooted since is the reason; otherwise it is a process of ours that died.
    """
    signs = [
        value
        for source, names in ((stamp, ("boottime_ns",)), (phase, ("started_boottime_ns", "stop_began_boottime_ns")))
        for value in (source.get(name) for name in names)
        if value is not None and source.get("boot_id") == phase.get("boot_id")
    ]
    boot = str(phase.get("boot_id") or stamp.get("boot_id") or boot_id)
    if phase.get("stop_reason"):
        outcome, reason, message = "KILLED", str(phase["stop_reason"]), str(phase.get("stop_message", ""))
    elif boot != boot_id:
        outcome, reason = "KILLED", "END_REASON_HOST_REBOOTED"
        message = "the box was rebooted while the training ran"
    else:
        outcome, reason = "FAILED", "END_REASON_INFRASTRUCTURE"
        message = "the keeper of the training died on the box, and the training with it"
    ended_ns = max(signs, default=now_ns if boot == boot_id else 0)
    fact = end_fact(boot, ended_ns, outcome, reason, message)
    fact["started_boottime_ns"] = phase.get("started_boottime_ns")
    fact["stop_began_boottime_ns"] = phase.get("stop_began_boottime_ns")
    fact["steps"] = stamp.get("step", 0)
    fact["epochs"] = stamp.get("epoch", 0)
    return fact


def end_fact(boot_id: str, at_ns: int, outcome: str, reason: str, message: str) -> dict[str, Any]:
    return {
        "fact": "ended",
        "boot_id": boot_id,
        "boottime_ns": at_ns,
        "outcome": outcome,
        "reason": reason,
        "message": message,
    }


def all_attempts(attempts: Path) -> list[AttemptFolder]:
    """Attempts on disk, oldest first."""
    if not attempts.is_dir():
        return []
    folders = [path for path in attempts.iterdir() if path.is_dir() and ID_PATTERN.fullmatch(path.name)]
    return [AttemptFolder(attempts, path.name) for path in sorted(folders, key=lambda path: path.stat().st_ctime_ns)]


def with_unwritten_end(attempt: Attempt, fact: dict[str, Any]) -> Attempt:
    """The attempt with an end that could not be written down, so that it is told at least now."""
    sequence = attempt.read + 1
    return replace(attempt, facts=(*attempt.facts, Fact(sequence, fact)), read=sequence)
