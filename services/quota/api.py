"""QuotaService: what each call needs, and who answers it."""

from collections.abc import AsyncIterator

import grpc

from protos.quota.v1 import quota_pb2 as pb
from protos.quota.v1 import quota_pb2_grpc as pb_grpc
from services.clock import Clock
from services.postgres import Pool
from services.quota.changes import Changes
from services.quota.checks import workspace_id
from services.quota.domain.minutes import to_milliminutes
from services.quota.invoices import Invoices
from services.quota.progress import Progress
from services.quota.usage import UsageAnswers
from services.quota.verify import verify
from services.quota.watches import UsageWatches
from services.rpc.shell import caller


class QuotaApi(pb_grpc.QuotaServiceServicer):
    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        progress: Progress,
        usage: UsageAnswers,
        watches: UsageWatches,
        invoices: Invoices,
        changes: Changes,
    ) -> None:
        self._pool, self._clock, self._progress = pool, clock, progress
        self._usage, self._watches, self._invoices, self._changes = usage, watches, invoices, changes

    async def SetQuota(
        self, request: pb.SetQuotaRequest, context: grpc.aio.ServicerContext[pb.SetQuotaRequest, pb.SetQuotaResponse]
    ) -> pb.SetQuotaResponse:
        return await self._changes.set_quota(workspace_id(), request)

    async def AdjustMinutes(
        self,
        request: pb.AdjustMinutesRequest,
        context: grpc.aio.ServicerContext[pb.AdjustMinutesRequest, pb.AdjustMinutesResponse],
    ) -> pb.AdjustMinutesResponse:
        return await self._changes.adjust(workspace_id(), request)

    async def GetUsage(
        self, request: pb.GetUsageRequest, context: grpc.aio.ServicerContext[pb.GetUsageRequest, pb.GetUsageResponse]
    ) -> pb.GetUsageResponse:
        return await self._usage.answer(workspace_id(), request)

    async def WatchUsage(
        self,
        request: pb.WatchUsageRequest,
        context: grpc.aio.ServicerContext[pb.WatchUsageRequest, pb.WatchUsageResponse],
    ) -> AsyncIterator[pb.WatchUsageResponse]:
        async for response in self._watches.watch(workspace_id(), caller(), request):
            yield response

    async def ListCharges(
        self,
        request: pb.ListChargesRequest,
        context: grpc.aio.ServicerContext[pb.ListChargesRequest, pb.ListChargesResponse],
    ) -> pb.ListChargesResponse:
        return await self._invoices.page(workspace_id(), request)

    async def ExplainCharge(
        self,
        request: pb.ExplainChargeRequest,
        context: grpc.aio.ServicerContext[pb.ExplainChargeRequest, pb.ExplainChargeResponse],
    ) -> pb.ExplainChargeResponse:
        return await self._invoices.explain(workspace_id(), request)

    async def VerifyUsage(
        self,
        request: pb.VerifyUsageRequest,
        context: grpc.aio.ServicerContext[pb.VerifyUsageRequest, pb.VerifyUsageResponse],
    ) -> pb.VerifyUsageResponse:
        workspace = workspace_id()
        await self._progress.reached(request.min_position)
        if request.job_id:
            await self._invoices.job_name(workspace, request.job_id)
        found = await verify(self._pool, workspace, request.job_id, self._clock.now_ms())
        return pb.VerifyUsageResponse(
            equal=not found.differences,
            differences=found.differences,
            jobs=found.jobs,
            events_replayed=found.events_replayed,
            position=found.position,
            replayed_milliminutes=to_milliminutes(found.settled_ms_micros),
        )
