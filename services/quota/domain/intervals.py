"""An attempt's time cut into stretches: connected, cut off, presumed, and the free grace at its end."""

from collections.abc import Sequence
from typing import NamedTuple

from protos.quota.v1.quota_pb2 import ExplainedInterval
from services.quota.domain.attempt import Attempt, AttemptEvent, Interval, interval
from services.quota.domain.lapses import Lapse, LinkChange, lapses
from services.quota.domain.minutes import period_of
from services.quota.domain.reasons import how_it_ended

_STARTED = "the training process started"
_SILENT = "the runner was last heard of"
_BACK = "the runner was heard of again"
_LAST = "the last time that the box can have been heard of: its end less the window"
_WINDOW_OVER = "its window was over: a training that is cut off ends itself then"
_NOT_KNOWN = f"{_WINDOW_OVER}; how it ended is not known yet"
_GOES_ON = "it goes on"


class Stretch(NamedTuple):
    """A time of one kind. Positions of zero: no event, a boundary that follows from another one."""

    kind: ExplainedInterval.Kind.ValueType
    from_ms: int
    to_ms: int
    began_because: str
    ended_because: str
    began_position: int
    ended_position: int
    open: bool
    # The month that it counts in.
    period: str


class _Edge(NamedTuple):
    """Where one stretch ends and the next begins."""

    at_ms: int
    because: str
    position: int
    # Of the stretch that begins here.
    kind: ExplainedInterval.Kind.ValueType


def stretches(
    attempt: Attempt, links: Sequence[LinkChange], window_ms: int, outcome: AttemptEvent | None, now_ms: int
) -> list[Stretch]:
    """In order, without gap or overlap, from its start to its end with the grace; empty where it never started.

    All but the grace add up to the charged time. `outcome` is the event that tells how it ended, as far as known.
    """
    known = interval(attempt, now_ms)
    if not known.started_at_ms:
        return []
    until_ms = max(known.charged_until_ms, known.started_at_ms)
    started_position = attempt.started.position if attempt.started is not None else _position(attempt)
    edges = [_Edge(known.started_at_ms, _STARTED, started_position, ExplainedInterval.KIND_CONNECTED)]
    found = lapses(links, known.started_at_ms, until_ms)
    for lapse in found:
        kind = ExplainedInterval.KIND_CUT_OFF
        if known.presumed and not lapse.back_position:
            kind = ExplainedInterval.KIND_PRESUMED
        edges.append(_Edge(lapse.from_ms, _SILENT, lapse.cut_position, kind))
        if lapse.back_position and lapse.to_ms < until_ms:
            edges.append(_Edge(lapse.to_ms, _BACK, lapse.back_position, ExplainedInterval.KIND_CONNECTED))
    if known.presumed and not (found and not found[-1].back_position):
        edges.append(_presumed_from(known, found, window_ms, _position(attempt)))
    return _between(edges, _end(attempt, known, until_ms, outcome, now_ms), attempt.running) + _grace(
        attempt, known, until_ms, outcome
    )


def _position(attempt: Attempt) -> int:
    return attempt.outcome.position if attempt.outcome is not None else 0


def _presumed_from(known: Interval, found: Sequence[Lapse], window_ms: int, position: int) -> _Edge:
    """Where no event says when the box was last heard of, it follows from the end: that is one window later."""
    earliest_ms = max(known.started_at_ms, found[-1].to_ms if found else 0)
    at_ms = max(known.charged_until_ms - window_ms, earliest_ms) if window_ms else earliest_ms
    return _Edge(at_ms, _LAST, position, ExplainedInterval.KIND_PRESUMED)


def _end(
    attempt: Attempt, known: Interval, until_ms: int, outcome: AttemptEvent | None, now_ms: int
) -> tuple[_Edge, bool]:
    """The last edge, and whether the last stretch is still going on."""
    position = _position(attempt)
    if outcome is None:
        over = until_ms < now_ms
        link = attempt.link.position if attempt.link is not None and over else 0
        return _Edge(until_ms, _NOT_KNOWN if over else _GOES_ON, link, ExplainedInterval.KIND_GRACE), not over
    because = _WINDOW_OVER if known.presumed else how_it_ended(outcome)[2]
    return _Edge(until_ms, because, position, ExplainedInterval.KIND_GRACE), False


def _between(edges: Sequence[_Edge], end: tuple[_Edge, bool], running: bool) -> list[Stretch]:
    """The stretches between the edges; empty ones are left out, but for the one of a training that just started."""
    last, goes_on = end
    made: list[Stretch] = []
    for index, (edge, following) in enumerate(zip(edges, [*edges[1:], last], strict=True)):
        final = index == len(edges) - 1
        if edge.at_ms < following.at_ms or (running and final and not made):
            made.append(
                Stretch(
                    edge.kind,
                    edge.at_ms,
                    following.at_ms,
                    edge.because,
                    following.because,
                    edge.position,
                    following.position,
                    goes_on and final,
                    period_of(edge.at_ms),
                )
            )
    return made


def _grace(attempt: Attempt, known: Interval, until_ms: int, outcome: AttemptEvent | None) -> list[Stretch]:
    if outcome is None or known.ended_at_ms <= until_ms:
        return []
    position = _position(attempt)
    why = "its stop began; saving a checkpoint is free"
    return [
        Stretch(
            ExplainedInterval.KIND_GRACE,
            until_ms,
            known.ended_at_ms,
            why,
            "the training process had ended",
            position,
            position,
            False,
            period_of(until_ms),
        )
    ]
