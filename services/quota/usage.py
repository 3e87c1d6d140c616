"""Answers how many minutes a month has: now, as of an earlier moment, and broken down."""

from collections.abc import Sequence

from protos.quota.v1 import quota_pb2 as pb
from services.clock import Clock
from services.postgres import Pool
from services.quota import checks
from services.quota.breakdowns import read_breakdown
from services.quota.domain.attempt import Attempt, interval
from services.quota.domain.breakdown import Row
from services.quota.domain.budget import THRESHOLDS_PERCENT, Budget, accrued, accrues_in, due_at_ms, reaches
from services.quota.domain.minutes import bounds, period_of, to_milliminutes
from services.quota.history import read_usage_as_of
from services.quota.progress import Progress
from services.quota.store import Usage, read_usage
from services.quota.wire import fitting
from services.rpc.moment import resolve

_HOUR_MS = 3_600_000


class UsageAnswers:
    def __init__(self, pool: Pool, clock: Clock, progress: Progress) -> None:
        self._pool, self._clock, self._progress = pool, clock, progress

    def month(self) -> str:
        """The month that it is, in UTC."""
        return period_of(self._clock.now_ms())

    async def answer(self, workspace_id: str, request: pb.GetUsageRequest) -> pb.GetUsageResponse:
        """Raises InvalidField, Unavailable."""
        checks.month(request.period)
        grouping = checks.grouping(request.group_by)
        moment = await resolve(self._pool, request.as_of) if request.HasField("as_of") else None
        await self._progress.reached(request.min_position)
        if moment is not None:
            await self._progress.reached(moment.position)
        now_ms = moment.at_ms if moment is not None else self._clock.now_ms()
        period = request.period or period_of(now_ms)
        if moment is None and not grouping:
            return usage_response(await read_usage(self._pool, workspace_id, period), period, now_ms, ())
        # One snapshot, so that the rows add up to the whole.
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            if moment is not None:
                usage = await read_usage_as_of(connection, workspace_id, period, moment.position)
            else:
                usage = await read_usage(connection, workspace_id, period)
            rows: Sequence[Row] = ()
            if grouping:
                rows = await read_breakdown(connection, workspace_id, period, grouping, usage.position, now_ms)
        return usage_response(usage, period, now_ms, rows)


def usage_response(usage: Usage, period: str, now_ms: int, rows: Sequence[Row]) -> pb.GetUsageResponse:
    """The month as known at `usage.position`, running attempts up to `now_ms`."""
    running = [attempt for attempt in usage.running if accrues_in(attempt, period, now_ms)]
    running_ms_micros = accrued(running, period, now_ms)
    ms_micros = usage.settled_ms_micros + running_ms_micros
    quota = usage.quota_milliminutes
    return pb.GetUsageResponse(
        period=period,
        used_milliminutes=to_milliminutes(ms_micros),
        quota_milliminutes=quota,
        running_milliminutes=to_milliminutes(running_ms_micros),
        running_jobs=len({attempt.job_id for attempt in running}),
        position=usage.position,
        exhausted=quota is not None and reaches(ms_micros, quota),
        rows=[_row(row) for row in rows],
        as_of_ms=now_ms,
        adjusted_milliminutes=to_milliminutes(usage.adjusted_ms_micros),
        burn_milliminutes_per_hour=to_milliminutes(_burn_rate_micros(running, period, now_ms) * _HOUR_MS),
        exhausted_at_ms=_exhausted_at_ms(usage, running, period, now_ms) if quota is not None else 0,
    )


def _burn_rate_micros(running: Sequence[Attempt], period: str, now_ms: int) -> int:
    """Minutes a minute, millionths, of what still accrues: neither in another month nor past the end of its window."""
    start_ms, end_ms = bounds(period)
    if not start_ms <= now_ms < end_ms:
        return 0
    return sum(
        attempt.rate_micros
        for attempt in running
        if interval(attempt, now_ms + 1).charged_until_ms > interval(attempt, now_ms).charged_until_ms
    )


def _exhausted_at_ms(usage: Usage, running: Sequence[Attempt], period: str, now_ms: int) -> int:
    """When the quota is used up if nothing happens; now where it is already, zero where not within the month."""
    assert usage.quota_milliminutes is not None
    budget = Budget(
        period=period,
        position=usage.position,
        quota_milliminutes=usage.quota_milliminutes,
        settled_ms_micros=usage.settled_ms_micros,
        running=running,
        reached_percent=frozenset(THRESHOLDS_PERCENT),
        exhausted=False,
    )
    at_ms = due_at_ms(budget, now_ms)
    return at_ms if at_ms < bounds(period)[1] else 0


def _row(row: Row) -> pb.UsageRow:
    return pb.UsageRow(
        key=row.key,
        name=row.name,
        milliminutes=to_milliminutes(row.ms_micros),
        charged_ms_micros=fitting(row.ms_micros),
        jobs=row.jobs,
        cut_off_ms_micros=fitting(row.cut_off_ms_micros),
    )
