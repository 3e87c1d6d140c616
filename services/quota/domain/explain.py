"""What a job cost, as an invoice: every interval with the events that made it, and why it began and ended.

The intervals of an attempt follow one another without a gap and add up to its charge exactly, by the same fold that
counts minutes (`attempt.evolve`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import JobAssigned, JobReachable, JobUnreachable
from protos.events.v1.workspace_pb2 import MinutesAdjusted
from protos.quota.v1 import quota_pb2 as pb
from services.quota.domain.attempt import Attempt, AttemptEvent, Outcome, evolve, unknown
from services.quota.domain.intervals import Stretch, stretches
from services.quota.domain.lapses import LinkChange
from services.quota.domain.ledger import ATTEMPT_EVENTS
from services.quota.domain.minutes import MS_MICROS_PER_MILLIMINUTE, bounds, split, to_milliminutes
from services.quota.domain.reasons import how_it_ended


@dataclass(slots=True)
class Life:
    """What the events tell of one attempt, and what its charge does not depend on besides."""

    attempt: Attempt
    assigned: JobAssigned = field(default_factory=JobAssigned)
    links: list[LinkChange] = field(default_factory=list)
    # The outcomes that held, in the order in which they did, each with its event.
    outcomes: list[tuple[Outcome, AttemptEvent]] = field(default_factory=list)


def lives(records: Iterable[EventRecord]) -> dict[str, Life]:
    """By attempt id, in the order in which they are first heard of. Events of other kinds change nothing."""
    found: dict[str, Life] = {}
    for record in sorted(records, key=lambda record: record.position):
        event_class = ATTEMPT_EVENTS.get(record.type)
        if event_class is None:
            continue
        event = event_class.FromString(record.payload.value)
        if not event.attempt_id:
            continue
        life = found.setdefault(event.attempt_id, Life(unknown(record.workspace_id, record.stream_id)))
        _take(life, event, record.position)
    return found


def _take(life: Life, event: AttemptEvent, position: int) -> None:
    before = life.attempt
    life.attempt = evolve(before, event, position)
    if isinstance(event, JobAssigned) and before.assigned is None:
        life.assigned = event
    link = link_change(event, position)
    if link is not None:
        life.links.append(link)
    outcome = life.attempt.outcome
    if outcome is not None and outcome != before.outcome:
        life.outcomes.append((outcome, event))


def link_change(event: AttemptEvent, position: int) -> LinkChange | None:
    """What the event tells of the connection; None for one that tells nothing of it."""
    if isinstance(event, JobUnreachable):
        return LinkChange(position, True, event.last_contact_at_ms)
    if isinstance(event, JobReachable):
        return LinkChange(position, False, event.cut_off_ms)
    return None


def explain(
    job_id: str, records: Sequence[EventRecord], adjustments: Sequence[EventRecord], now_ms: int
) -> pb.ExplainChargeResponse:
    """The invoice of a job from its stream and the MinutesAdjusted that name it; running attempts up to `now_ms`."""
    attempts = [(attempt_id, life) for attempt_id, life in lives(records).items()]
    exact = 0
    response = pb.ExplainChargeResponse(job_id=job_id)
    for attempt_id, life in attempts:
        explained = _attempt(attempt_id, life, now_ms)
        exact += sum(interval.charged_ms_micros for interval in explained.intervals)
        response.attempts.append(explained)
    for record in adjustments:
        adjusted = MinutesAdjusted.FromString(record.payload.value)
        exact += adjusted.milliminutes * MS_MICROS_PER_MILLIMINUTE
        response.adjustments.add(
            position=record.position,
            period=adjusted.period,
            milliminutes=adjusted.milliminutes,
            reason=adjusted.reason,
            actor=record.actor,
            recorded_at_ms=record.recorded_at_us // 1000,
        )
    response.milliminutes = to_milliminutes(exact)
    response.charged_ms_micros = _shown(exact)
    response.as_of_ms = now_ms
    return response


def _attempt(attempt_id: str, life: Life, now_ms: int) -> pb.ExplainedAttempt:
    assigned, attempt = life.assigned, life.attempt
    outcome = life.outcomes[-1] if life.outcomes else None
    reason, message, _ = how_it_ended(outcome[1]) if outcome is not None else (0, "", "")
    explained = pb.ExplainedAttempt(
        attempt_id=attempt_id,
        runner_id=assigned.runner_id,
        runner_name=assigned.runner_name,
        simulated=assigned.simulated,
        gpus=assigned.gpus,
        evaluation_factor_micros=assigned.evaluation_factor_micros,
        rate_micros=attempt.rate_micros,
        assigned_position=attempt.assigned.position if attempt.assigned is not None else 0,
        reason=reason,  # type: ignore[arg-type]
        message=message,
    )
    made = stretches(attempt, life.links, assigned.window_ms, outcome[1] if outcome is not None else None, now_ms)
    for stretch in made:
        for piece in _by_month(stretch):
            explained.intervals.append(_interval(piece, explained))
    for (earlier, event), (later, _) in zip(life.outcomes, life.outcomes[1:], strict=False):
        ms = max(earlier.interval.charged_until_ms - earlier.interval.started_at_ms, 0)
        explained.corrected.add(
            position=earlier.position,
            corrected_by_position=later.position,
            interval=event.interval,  # type: ignore[union-attr]
            charged_ms_micros=_shown(ms * attempt.rate_micros if earlier.interval.started_at_ms else 0),
        )
    return explained


def _by_month(stretch: Stretch) -> Iterator[Stretch]:
    """The stretch cut at the boundaries of months, each piece with its month."""
    parts = split(stretch.from_ms, stretch.to_ms)
    for number, (period, ms) in enumerate(parts):
        from_ms = max(stretch.from_ms, bounds(period)[0])
        last = number == len(parts) - 1
        yield stretch._replace(
            from_ms=from_ms,
            to_ms=from_ms + ms,
            began_because=stretch.began_because if not number else f"{period} began (UTC)",
            ended_because=stretch.ended_because if last else f"{period} ended (UTC)",
            open=stretch.open and last,
            period=period,
        )
    if not parts:
        yield stretch


def _interval(piece: Stretch, explained: pb.ExplainedAttempt) -> pb.ExplainedInterval:
    free = piece.kind == pb.ExplainedInterval.KIND_GRACE
    positions = {explained.assigned_position, piece.began_position, piece.ended_position} - {0}
    return pb.ExplainedInterval(
        kind=piece.kind,
        from_ms=piece.from_ms,
        to_ms=piece.to_ms,
        began_because=piece.began_because,
        ended_because=piece.ended_because,
        positions=sorted(positions),
        charged_ms_micros=0 if free else _shown((piece.to_ms - piece.from_ms) * explained.rate_micros),
        period=piece.period,
        open=piece.open,
    )


def _shown(ms_micros: int) -> int:
    """What fits into 64 bits of a sum."""
    return max(min(ms_micros, (1 << 63) - 1), -(1 << 63))
