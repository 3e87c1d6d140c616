"""MetricsService: series and logs, for people."""

from collections.abc import AsyncIterator

import grpc

from protos.metrics.v1 import metrics_pb2 as pb
from protos.metrics.v1 import metrics_pb2_grpc as pb_grpc
from services.metrics.attempts import Register
from services.metrics.hub import Hub
from services.metrics.log_search import Search
from services.metrics.logs import lines_after, log_spools, start_of_tail, starts
from services.metrics.query import (
    HIGHEST_STEP,
    LOWEST_STEP,
    high_waters,
    list_series,
    point_spools,
    points_after,
    query,
    refusals,
    replaced_from,
)
from services.metrics.series import MIN_POINTS
from services.metrics.watch import watch
from services.rpc.errors import InvalidField
from services.rpc.kernel import Kernel
from services.rpc.shell import caller

_DEFAULT_POINTS = 1000
_MAX_POINTS = 100_000
_MAX_SEARCH = 1000
_EVERY = (1 << 63) - 1


class MetricsApi(pb_grpc.MetricsServiceServicer):
    def __init__(self, kernel: Kernel, register: Register, hub: Hub) -> None:
        self._kernel, self._pool, self._register, self._hub = kernel, kernel.pool, register, hub

    async def ListSeries(
        self,
        request: pb.ListSeriesRequest,
        context: grpc.aio.ServicerContext[pb.ListSeriesRequest, pb.ListSeriesResponse],
    ) -> pb.ListSeriesResponse:
        await self._register.check_job(request.job_id, caller())
        found: dict[str, pb.SeriesInfo] = {}
        for row in await list_series(self._pool, request.job_id):
            if not row.points:
                # They were removed after their time.
                continue
            before = found.get(row.name)
            last_step = max(row.last_step, before.last_step) if before and not row.of_trainer else row.last_step
            found[row.name] = pb.SeriesInfo(
                name=row.name,
                points=row.points + (before.points if before else 0),
                first_step=min(row.first_step, before.first_step) if before else row.first_step,
                last_step=last_step,
                last_value=row.last_value,
            )
        refused, removed_at_ms = await refusals(self._pool, request.job_id)
        return pb.ListSeriesResponse(series=found.values(), refused=refused, removed_at_ms=removed_at_ms)

    async def QueryMetrics(
        self,
        request: pb.QueryMetricsRequest,
        context: grpc.aio.ServicerContext[pb.QueryMetricsRequest, pb.QueryMetricsResponse],
    ) -> pb.QueryMetricsResponse:
        max_points = _max_points(request.max_points)
        from_step, to_step = request.from_step, request.to_step
        if not from_step and not to_step:
            from_step, to_step = LOWEST_STEP, HIGHEST_STEP
        if to_step < from_step:
            raise InvalidField("to_step", to_step, f"it must not be below from_step {from_step}")
        await self._register.check_job(request.job_id, caller())
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            series = await query(connection, request.job_id, request.names, max_points, from_step, to_step)
        return pb.QueryMetricsResponse(series=series)

    async def WatchMetrics(
        self,
        request: pb.WatchMetricsRequest,
        context: grpc.aio.ServicerContext[pb.WatchMetricsRequest, pb.WatchMetricsResponse],
    ) -> AsyncIterator[pb.WatchMetricsResponse]:
        principal, job_id = caller(), request.job_id
        max_points = _max_points(request.max_points)
        await self._register.check_job(job_id, principal)
        seen: dict[int, int] | None = None

        async def look() -> AsyncIterator[pb.WatchMetricsResponse]:
            nonlocal seen
            if seen is None:
                # One snapshot: what the query finds ends exactly at the high-waters.
                async with (
                    self._pool.acquire() as connection,
                    connection.transaction(isolation="repeatable_read", readonly=True),
                ):
                    reached = await high_waters(connection, job_id)
                    series = await query(connection, job_id, request.names, max_points)
                seen = reached
                if series:
                    yield pb.WatchMetricsResponse(series=series)
                return
            reached = await high_waters(self._pool, job_id)
            moved = [spool_id for spool_id, up_to in reached.items() if up_to > seen.get(spool_id, 0)]
            # With one attempt there is a spool for the training and one for the box.
            several = moved and len(reached) > 2
            replaced = replaced_from(await list_series(self._pool, job_id, request.names)) if several else {}
            for spool_id in moved:
                up_to, after = reached[spool_id], seen.get(spool_id, 0)
                async for series in points_after(self._pool, spool_id, after, up_to, request.names, replaced):
                    yield pb.WatchMetricsResponse(series=series)
                seen[spool_id] = up_to

        with self._hub.watch(job_id) as woken:
            async for response in watch(self._kernel, principal, woken, look, pb.WatchMetricsResponse):
                yield response

    async def ReadPoints(
        self,
        request: pb.ReadPointsRequest,
        context: grpc.aio.ServicerContext[pb.ReadPointsRequest, pb.ReadPointsResponse],
    ) -> AsyncIterator[pb.ReadPointsResponse]:
        principal = caller()
        await self._register.check_job(request.job_id, principal)
        for spool in await point_spools(self._pool, request.job_id):
            async for pieces in points_after(self._pool, spool.spool_id, 0, spool.sequence, request.names, {}):
                self._kernel.shell.check_still_valid(principal)
                for series in pieces:
                    yield pb.ReadPointsResponse(attempt_id=spool.attempt_id, series=series)

    async def ReadLogs(
        self, request: pb.ReadLogsRequest, context: grpc.aio.ServicerContext[pb.ReadLogsRequest, pb.ReadLogsResponse]
    ) -> AsyncIterator[pb.ReadLogsResponse]:
        principal = caller()
        for field in ("from_line", "max_lines", "tail"):
            _not_negative(field, getattr(request, field))
        search = _search(request.search)
        await self._register.check_job(request.job_id, principal)
        spools = await log_spools(self._pool, request.job_id)
        skip = await start_of_tail(self._pool, spools, request.tail, search) if request.tail else 0
        begins = starts(spools, max(request.from_line - 1, skip))
        left = request.max_lines or _EVERY
        for spool in spools:
            async for lines in lines_after(self._pool, spool, begins[spool.spool_id], spool.lines, search):
                self._kernel.shell.check_still_valid(principal)
                yield pb.ReadLogsResponse(lines=lines[:left])
                left -= len(lines)
                if left <= 0:
                    return

    async def WatchLogs(
        self,
        request: pb.WatchLogsRequest,
        context: grpc.aio.ServicerContext[pb.WatchLogsRequest, pb.WatchLogsResponse],
    ) -> AsyncIterator[pb.WatchLogsResponse]:
        principal = caller()
        for field in ("from_line", "tail"):
            _not_negative(field, getattr(request, field))
        search = _search(request.search)
        await self._register.check_job(request.job_id, principal)
        seen: dict[int, int] | None = None

        async def look() -> AsyncIterator[pb.WatchLogsResponse]:
            nonlocal seen
            spools = await log_spools(self._pool, request.job_id)
            if seen is None:
                skip = await start_of_tail(self._pool, spools, request.tail, search) if request.tail else 0
                seen = starts(spools, skip)
            for spool in spools:
                after = max(seen.get(spool.spool_id, 0), request.from_line - 1 - spool.before)
                async for lines in lines_after(self._pool, spool, after, spool.lines, search):
                    yield pb.WatchLogsResponse(lines=lines)
                seen[spool.spool_id] = spool.lines

        with self._hub.watch(request.job_id) as woken:
            async for response in watch(self._kernel, principal, woken, look, pb.WatchLogsResponse):
                yield response


def _max_points(given: int) -> int:
    if given and not MIN_POINTS <= given <= _MAX_POINTS:
        raise InvalidField("max_points", given, f"it must be from {MIN_POINTS} to {_MAX_POINTS}, or 0 for the default")
    return given or _DEFAULT_POINTS


def _search(text: str) -> Search:
    if len(text) > _MAX_SEARCH:
        raise InvalidField("search", text[:20] + "…", f"it must have {_MAX_SEARCH} characters at most")
    return Search(text)


def _not_negative(field: str, value: int) -> None:
    if value < 0:
        raise InvalidField(field, value, "it must not be negative")
