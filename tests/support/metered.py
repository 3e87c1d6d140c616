"""Event log, relay, scheduler and quota service in this process, as real servers on real PostgreSQL and NATS."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.workspace_pb2 import MinutesAdjusted
from protos.quota.v1 import quota_pb2
from protos.quota.v1.quota_pb2_grpc import QuotaServiceStub
from services.eventlog.append import Append, StreamAppend
from services.eventlog.read import Filter, read_range
from services.postgres import Pool
from services.quota import bootstrap as quota
from tests.support.box import Box, hello
from tests.support.control import Control, control_plane
from tests.support.log import appender_on, pool_on
from tests.support.platform import DatabaseUrls
from tests.support.servers import OPERATOR_SHA256, address, running


class Metered:
    """`control` is the scheduler's side, with one workspace; here is the quota's."""

    def __init__(self, control: Control, channel: grpc.aio.Channel, database: DatabaseUrls, pool: Pool) -> None:
        self.control, self.quota = control, QuotaServiceStub(channel)
        self._database, self._pool = database, pool

    async def set_quota(self, milliminutes: int | None) -> int:
        request = quota_pb2.SetQuotaRequest(quota_milliminutes=milliminutes)
        return (await self.quota.SetQuota(request, metadata=self.control.auth, timeout=30)).position

    async def adjust(self, period: str, milliminutes: int) -> int:
        """Append MinutesAdjusted as the quota service does; returns its position."""
        event = MinutesAdjusted(period=period, milliminutes=milliminutes, reason="a box that stood still")
        stream = StreamAppend("workspace", self.control.workspace_id, None, [event])
        async with appender_on(self._database.quota) as log:
            return (await log.append(Append(self.control.workspace_id, [stream], actor="token:test"))).position

    async def usage(self, min_position: int = 0) -> quota_pb2.GetUsageResponse:
        request = quota_pb2.GetUsageRequest(min_position=min_position)
        return await self.quota.GetUsage(request, metadata=self.control.auth, timeout=30)

    async def verified(self, min_position: int) -> quota_pb2.VerifyUsageResponse:
        request = quota_pb2.VerifyUsageRequest(min_position=min_position)
        return await self.quota.VerifyUsage(request, metadata=self.control.auth, timeout=30)

    async def events(self, *types: str) -> list[EventRecord]:
        """The log, or its events of these types, in order."""
        pages = read_range(self._pool, 1, 1 << 62, Filter(types=types))
        return [record async for page in pages for record in page]

    async def connected_box(self, name: str) -> Box:
        """A new runner with a box that the test plays, ONLINE."""
        _, box = await self.control.box(name)
        await box.connect(hello(installation_id=f"i-{name}"))
        return box


@asynccontextmanager
async def metered(database: DatabaseUrls, nats_url: str, **settings: Any) -> AsyncIterator[Metered]:
    """Until the end of the block; `settings` are the scheduler's."""
    of_quota = quota.Settings(
        postgres_url=database.quota, nats_url=nats_url, listen=address(), operator_token_sha256=OPERATOR_SHA256
    )
    async with (
        control_plane(database, nats_url, **settings) as control,
        running(quota.serve, of_quota) as listening,
        grpc.aio.insecure_channel(listening) as channel,
        pool_on(database.quota) as pool,
    ):
        yield Metered(control, channel, database, pool)


def of_type(records: Sequence[EventRecord], *types: str) -> list[EventRecord]:
    return [record for record in records if record.type in types]
