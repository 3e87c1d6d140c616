"""What admins change: the quota of a workspace, and the minutes of a month."""

from google.protobuf.message import Message

from protos.events.v1.workspace_pb2 import MinutesAdjusted, QuotaSet
from protos.quota.v1 import quota_pb2 as pb
from services.clock import Clock
from services.eventlog.append import Append, Request, StreamAppend
from services.eventlog.appender import Appender
from services.eventlog.read import read_head
from services.eventlog.requests import answered
from services.postgres import Pool
from services.quota import checks
from services.quota.progress import Progress
from services.quota.store import read_job_name
from services.rpc.errors import NotFound
from services.rpc.requests import identity_of
from services.rpc.shell import caller, correlation_id


class Changes:
    def __init__(self, pool: Pool, clock: Clock, appender: Appender, progress: Progress) -> None:
        self._pool, self._clock, self._appender, self._progress = pool, clock, appender, progress

    async def set_quota(self, workspace_id: str, request: pb.SetQuotaRequest) -> pb.SetQuotaResponse:
        """Raises InvalidField, RequestIdReused, LogUnavailable."""
        event = QuotaSet()
        if request.HasField("quota_milliminutes"):
            event.quota_milliminutes = checks.quota(request.quota_milliminutes)
        identity = identity_of(request, request.request_id)
        return pb.SetQuotaResponse(position=await self._append(workspace_id, event, identity))

    async def adjust(self, workspace_id: str, request: pb.AdjustMinutesRequest) -> pb.AdjustMinutesResponse:
        """Raises InvalidField, NotFound, RequestIdReused, LogUnavailable."""
        identity = identity_of(request, request.request_id)
        # What was right the first time is answered the same way later, whatever month it is then.
        if identity is not None and (stored := await answered(self._pool, identity)) is not None:
            return pb.AdjustMinutesResponse.FromString(stored)
        event = MinutesAdjusted(
            period=checks.begun_month(request.period, self._clock.now_ms()),
            milliminutes=checks.adjustment(request.milliminutes),
            reason=checks.reason(request.reason),
            job_id=request.job_id,
        )
        if request.job_id:
            await self._check_job(workspace_id, request.job_id)
        return pb.AdjustMinutesResponse(position=await self._append(workspace_id, event, identity))

    async def _check_job(self, workspace_id: str, job_id: str) -> None:
        if await read_job_name(self._pool, workspace_id, job_id) is None:
            # It may have been submitted a moment ago.
            await self._progress.reached((await read_head(self._pool)).position)
            if await read_job_name(self._pool, workspace_id, job_id) is None:
                raise NotFound("job", job_id, "list the jobs to see their ids")

    async def _append(self, workspace_id: str, event: Message, identity: Request | None) -> int:
        """The position of the event, of the first one where the request is a repeat."""
        appended = await self._appender.append(
            Append(
                workspace_id,
                [StreamAppend("workspace", workspace_id, None, [event])],
                actor=caller().subject,
                correlation_id=correlation_id(),
                request=identity,
                # Both answers are a position and nothing else.
                respond=lambda records: pb.AdjustMinutesResponse(position=records[-1].position),
            )
        )
        return pb.AdjustMinutesResponse.FromString(appended.repeated or appended.response or b"").position
