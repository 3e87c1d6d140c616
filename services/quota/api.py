"""QuotaService: checks the request, reads or appends, answers."""

import hashlib

import grpc

from protos.events.v1.job_pb2 import ChargedInterval
from protos.events.v1.workspace_pb2 import QuotaSet
from protos.quota.v1 import quota_pb2 as pb
from protos.quota.v1 import quota_pb2_grpc as pb_grpc
from protos.training.v1.training_pb2 import EndReason
from services.clock import Clock
from services.eventlog.append import Append, Request, StreamAppend
from services.eventlog.appender import Appender
from services.postgres import Pool
from services.quota.domain.attempt import Attempt, charge, interval
from services.quota.domain.budget import accrued, accrues_in, reaches
from services.quota.domain.minutes import bounds, period_of, to_milliminutes
from services.quota.progress import Progress
from services.quota.store import Job, JobQuery, read_job_exists, read_jobs, read_usage
from services.quota.verify import verify
from services.rpc.errors import InvalidField, NotFound, Refused
from services.rpc.shell import caller, correlation_id

_DEFAULT_PAGE = 100
_MAX_PAGE = 1000
_MAX_REQUEST_ID = 100
# A million years on one T4 is 5 × 10^14: beyond this it is a mistake, and "unlimited" is said otherwise.
MAX_QUOTA_MILLIMINUTES = 10**15


class NoWorkspace(Refused):
    """Minutes are counted by workspace, and the operator's token belongs to none."""

    def __init__(self) -> None:
        super().__init__("the operator's token belongs to no workspace; ask with a token of the workspace")


class QuotaApi(pb_grpc.QuotaServiceServicer):
    def __init__(self, pool: Pool, clock: Clock, appender: Appender, progress: Progress) -> None:
        self._pool, self._clock, self._appender, self._progress = pool, clock, appender, progress

    async def SetQuota(
        self, request: pb.SetQuotaRequest, context: grpc.aio.ServicerContext[pb.SetQuotaRequest, pb.SetQuotaResponse]
    ) -> pb.SetQuotaResponse:
        event = QuotaSet()
        if request.HasField("quota_milliminutes"):
            _check_quota(request.quota_milliminutes)
            event.quota_milliminutes = request.quota_milliminutes
        workspace_id = _workspace_id()
        appended = await self._appender.append(
            Append(
                workspace_id,
                [StreamAppend("workspace", workspace_id, None, [event])],
                actor=caller().subject,
                correlation_id=correlation_id(),
                request=_identity(request),
                respond=lambda records: pb.SetQuotaResponse(position=records[-1].position),
            )
        )
        return pb.SetQuotaResponse.FromString(appended.repeated or appended.response or b"")

    async def GetUsage(
        self, request: pb.GetUsageRequest, context: grpc.aio.ServicerContext[pb.GetUsageRequest, pb.GetUsageResponse]
    ) -> pb.GetUsageResponse:
        workspace_id = _workspace_id()
        _bounds("period", request.period)
        await self._reached(request.min_position)
        now_ms = self._clock.now_ms()
        period = request.period or period_of(now_ms)
        usage = await read_usage(self._pool, workspace_id, period)
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
        )

    async def ListCharges(
        self,
        request: pb.ListChargesRequest,
        context: grpc.aio.ServicerContext[pb.ListChargesRequest, pb.ListChargesResponse],
    ) -> pb.ListChargesResponse:
        workspace_id = _workspace_id()
        start_ms, end_ms = _bounds("period", request.period)
        limit = _page_size(request.page_size)
        before = _page_token(request.page_token)
        await self._reached(request.min_position)
        await self._check_job(workspace_id, request.job_id)
        now_ms = self._clock.now_ms()
        # One more than asked for tells whether there is a next page.
        query = JobQuery(workspace_id, request.period, start_ms, end_ms, request.job_id, before, limit + 1, now_ms)
        jobs = await read_jobs(self._pool, query)
        more = len(jobs) > limit
        return pb.ListChargesResponse(
            charges=[_charge(job, now_ms) for job in jobs[:limit]],
            next_page_token=str(jobs[limit - 1].position) if more else "",
        )

    async def VerifyUsage(
        self,
        request: pb.VerifyUsageRequest,
        context: grpc.aio.ServicerContext[pb.VerifyUsageRequest, pb.VerifyUsageResponse],
    ) -> pb.VerifyUsageResponse:
        workspace_id = _workspace_id()
        await self._reached(request.min_position)
        await self._check_job(workspace_id, request.job_id)
        found = await verify(self._pool, workspace_id, request.job_id, self._clock.now_ms())
        return pb.VerifyUsageResponse(
            equal=not found.differences,
            differences=found.differences,
            jobs=found.jobs,
            events_replayed=found.events_replayed,
            position=found.position,
            replayed_milliminutes=to_milliminutes(found.settled_ms_micros),
        )

    async def _reached(self, min_position: int) -> None:
        if min_position < 0:
            raise InvalidField("min_position", min_position, "positions count from 1; 0 means: do not wait")
        await self._progress.reached(min_position)

    async def _check_job(self, workspace_id: str, job_id: str) -> None:
        if job_id and not await read_job_exists(self._pool, workspace_id, job_id):
            raise NotFound("job", job_id, "list the jobs to see their ids")


def _workspace_id() -> str:
    """The caller's workspace. Raises NoWorkspace."""
    workspace_id = caller().workspace_id
    if not workspace_id:
        raise NoWorkspace
    return workspace_id


def _check_quota(milliminutes: int) -> None:
    if not 0 <= milliminutes <= MAX_QUOTA_MILLIMINUTES:
        rule = f"a quota is minutes × 1000, from 0 to {MAX_QUOTA_MILLIMINUTES}; leave it out for unlimited"
        raise InvalidField("quota_milliminutes", milliminutes, rule)


def _identity(request: pb.SetQuotaRequest) -> Request | None:
    """None where the caller gave no id, and a repeat is a request of its own. Raises InvalidField."""
    if len(request.request_id) > _MAX_REQUEST_ID:
        rule = f"it has at most {_MAX_REQUEST_ID} characters; a UUID is right"
        raise InvalidField("request_id", request.request_id, rule)
    if not request.request_id:
        return None
    # The RPC is part of the content: the same id in another call is a mistake.
    content = request.DESCRIPTOR.full_name.encode() + request.SerializeToString(deterministic=True)
    return Request(caller().subject, request.request_id, hashlib.sha256(content).digest())


def _bounds(field: str, period: str) -> tuple[int, int]:
    """Start and end of the month in ms; zeros for an empty period. Raises InvalidField."""
    if not period:
        return 0, 0
    try:
        return bounds(period)
    except ValueError:
        raise InvalidField(field, period, "a period is a calendar month such as 2026-11, in UTC") from None


def _page_size(page_size: int) -> int:
    if not 0 <= page_size <= _MAX_PAGE:
        raise InvalidField("page_size", page_size, f"a page has 1 to {_MAX_PAGE} charges; 0 means {_DEFAULT_PAGE}")
    return page_size or _DEFAULT_PAGE


def _page_token(token: str) -> int:
    """Position of the last job of the page before; zero for the first page. Raises InvalidField."""
    if token and not (token.isascii() and token.isdigit() and 0 < int(token[:20]) < 1 << 62):
        raise InvalidField("page_token", token, "it must be the next_page_token of the page before")
    return int(token or 0)


def _charge(job: Job, now_ms: int) -> pb.Charge:
    return pb.Charge(
        job_id=job.job_id,
        job_name=job.name,
        attempts=[_charged_attempt(attempt_id, attempt, now_ms) for attempt_id, attempt in job.attempts],
        milliminutes=to_milliminutes(sum(charge(attempt, now_ms) for _, attempt in job.attempts)),
        running=any(attempt.running for _, attempt in job.attempts),
    )


def _charged_attempt(attempt_id: str, attempt: Attempt, now_ms: int) -> pb.ChargedAttempt:
    known = interval(attempt, now_ms)
    assigned, outcome = attempt.assigned, attempt.outcome
    return pb.ChargedAttempt(
        attempt_id=attempt_id,
        runner_id=assigned.runner_id if assigned else "",
        runner_name=assigned.runner_name if assigned else "",
        simulated=assigned.simulated if assigned else False,
        rate_micros=attempt.rate_micros,
        interval=ChargedInterval(
            started_at_ms=known.started_at_ms,
            charged_until_ms=known.charged_until_ms,
            ended_at_ms=known.ended_at_ms,
            presumed=known.presumed,
        ),
        charged_ms_micros=charge(attempt, now_ms),
        reason=outcome.reason if outcome else EndReason.END_REASON_UNSPECIFIED,
        assigned_position=assigned.position if assigned else 0,
        ended_position=outcome.position if outcome else 0,
    )
