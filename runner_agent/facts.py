"""Facts of an attempt as they lie in `facts.jsonl`, and the reports that are made of them."""

import contextlib
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.keeper_messages import Anchor


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of `facts.jsonl`; `sequence` is its line number, from 1."""

    sequence: int
    content: dict[str, Any]

    @property
    def ended(self) -> bool:
        return self.content.get("fact") == "ended"


def to_report(attempt_id: str, job_id: str, fact: Fact, anchor: Anchor) -> session_pb2.Report:
    """The report of a fact, its moments told relative to `anchor`, which must be of the same boot as the fact.

    A fact that cannot be read becomes a report without one: the scheduler rejects it, and the next can follow.
    """
    report = session_pb2.Report(attempt_id=attempt_id, job_id=job_id, sequence=fact.sequence)
    try:
        _fill(report, fact.content, anchor)
    except (ParseError, KeyError, TypeError, ValueError):
        report.ClearField("fact")
    return report


def _fill(report: session_pb2.Report, content: dict[str, Any], anchor: Anchor) -> None:
    match content.get("fact"):
        case "started":
            _started(report.started, content)
            report.started.at.CopyFrom(moment(content["boottime_ns"], anchor))
        case "checkpoint":
            ParseDict(content["checkpoint"], report.checkpointed.checkpoint, ignore_unknown_fields=True)
        case "evaluation":
            evaluation: dict[str, Any] = {
                name: content[name] for name in ("step", "epoch", "metrics") if name in content
            }
            ParseDict(evaluation, report.evaluated, ignore_unknown_fields=True)
            report.evaluated.SetInParent()
        case "stalled":
            report.stalled.step = content["step"]
            report.stalled.since.CopyFrom(moment(content["since_boottime_ns"], anchor))
        case "progressed":
            report.progressed.step = content["step"]
            report.progressed.at.CopyFrom(moment(content["boottime_ns"], anchor))
        case "ended":
            _ended(report.ended, content, anchor)


def _started(started: session_pb2.Started, content: dict[str, Any]) -> None:
    """What a trainer tells of its start adorns it: what cannot be read must not hide that minutes count from now."""
    for name in ("weights", "weights_source", "warnings", "batch_size"):
        told = session_pb2.Started()
        with contextlib.suppress(ParseError, TypeError, ValueError):
            ParseDict({name: content[name]} if name in content else {}, told, ignore_unknown_fields=True)
            started.MergeFrom(told)


def moment(at_ns: int, anchor: Anchor) -> session_pb2.BoxMoment:
    elapsed_ms = (at_ns - anchor.boottime_ns) // 1_000_000
    return session_pb2.BoxMoment(anchor_at_ms=anchor.at_ms, elapsed_ms=elapsed_ms)


def _ended(ended: session_pb2.Ended, content: dict[str, Any], anchor: Anchor) -> None:
    ended.outcome = session_pb2.Outcome.Value(f"OUTCOME_{content['outcome']}")
    ended.reason = end_reason(content.get("reason", ""))
    ended.message = content.get("message", "")
    for field, name in (("started_at", "started"), ("stop_began_at", "stop_began")):
        at_ns = content.get(f"{name}_boottime_ns")
        if at_ns is not None:
            getattr(ended, field).CopyFrom(moment(at_ns, anchor))
    ended.ended_at.CopyFrom(moment(content["boottime_ns"], anchor))
    summary: dict[str, Any] = {name: content[name] for name in ("steps", "epochs", "metrics") if name in content}
    ParseDict(summary, ended, ignore_unknown_fields=True)


def end_reason(name: str) -> training_pb2.EndReason.ValueType:
    """A reason by its name; one that this version does not know counts as INFRASTRUCTURE."""
    if not name:
        return training_pb2.END_REASON_UNSPECIFIED
    number = training_pb2.EndReason.DESCRIPTOR.values_by_name.get(name)
    return training_pb2.EndReason.ValueType(number.number if number else training_pb2.END_REASON_INFRASTRUCTURE)
