"""The quota service in the test's process, on real servers: fed through the log, asked over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import workspace_pb2 as workspace
from protos.quota.v1 import quota_pb2 as pb
from protos.quota.v1.quota_pb2_grpc import QuotaServiceStub
from services.clock import PlatformClock
from services.eventlog.append import Append, StreamAppend
from services.eventlog.appender import Appender
from services.eventlog.leadership import lead
from services.eventlog.read import Filter, read_range
from services.eventlog.relay import Relay
from services.ids import new_secret, sha256
from services.quota.bootstrap import MIGRATIONS, QuotaService, Settings
from services.rpc.kernel import Kernel, open_kernel
from tests.support.eventually import eventually
from tests.support.log import appender_on, create_log
from tests.support.platform import DatabaseUrls
from tests.support.quota import NOON_MS

WORKSPACE = "ws_1"


class SteppedClock:
    """Stands still until it is stepped. `wait` is the timer's wait by this clock."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self._now_ms = now_ms
        self._monotonic = PlatformClock().monotonic
        self._stepped = asyncio.Event()

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        """Runs on: it bounds how long real servers are waited for."""
        return self._monotonic()

    def step(self, ms: int) -> None:
        self._now_ms += ms
        self._stepped.set()
        self._stepped = asyncio.Event()

    async def wait(self, woken: asyncio.Event, seconds: float) -> None:
        end_ms = self._now_ms + round(seconds * 1000)
        while self._now_ms < end_ms and not woken.is_set():
            waits = [asyncio.create_task(event.wait()) for event in (woken, self._stepped)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waits:
                    one.cancel()


class QuotaUnderTest:
    """A client with an admin's token of WORKSPACE, the clock, and the log."""

    def __init__(self, kernel: Kernel, clock: SteppedClock, log: Appender, channel: grpc.aio.Channel) -> None:
        self.kernel, self.clock, self.log = kernel, clock, log
        self.stub = QuotaServiceStub(channel)
        self.token = ""

    def metadata(self, token: str = "") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {token or self.token}"),)

    async def admit(self, workspace_id: str, role: workspace.Role.ValueType = workspace.ROLE_ADMIN) -> str:
        """A new token of the workspace."""
        secret = new_secret("tt")
        event = workspace.TokenCreated(token_id=f"tok_{secret[3:9]}", role=role, token_sha256=sha256(secret))
        await self.kernel.reached(await self.append("workspace", workspace_id, event, workspace_id=workspace_id))
        return secret

    async def append(self, kind: str, stream_id: str, *events: Message, workspace_id: str = WORKSPACE) -> int:
        """Append as the scheduler does and return the position of the last event."""
        stream = StreamAppend(kind, stream_id, None, events)
        return (await self.log.append(Append(workspace_id, [stream], actor="service:test"))).position

    async def job(self, job_id: str, *events: Message, workspace_id: str = WORKSPACE) -> int:
        return await self.append("job", job_id, *events, workspace_id=workspace_id)

    async def usage(self, min_position: int = 0, period: str = "") -> pb.GetUsageResponse:
        request = pb.GetUsageRequest(min_position=min_position, period=period)
        return await self.stub.GetUsage(request, metadata=self.metadata(), timeout=30)

    async def charges(self, request: pb.ListChargesRequest) -> pb.ListChargesResponse:
        return await self.stub.ListCharges(request, metadata=self.metadata(), timeout=30)

    async def verify(self, request: pb.VerifyUsageRequest) -> pb.VerifyUsageResponse:
        return await self.stub.VerifyUsage(request, metadata=self.metadata(), timeout=30)

    async def set_quota(self, milliminutes: int | None, request_id: str = "") -> int:
        request = pb.SetQuotaRequest(request_id=request_id, quota_milliminutes=milliminutes)
        return (await self.stub.SetQuota(request, metadata=self.metadata(), timeout=30)).position

    async def events(self, *types: str) -> list[EventRecord]:
        pages = read_range(self.kernel.pool, 1, 1 << 62, Filter(types=types))
        return [record async for page in pages for record in page]

    async def said(self, *expected: int | str) -> list[EventRecord]:
        """Wait until exactly these were announced: percents of thresholds, and `exhausted`."""

        async def look() -> list[EventRecord]:
            found = await self.events("QuotaThresholdReached", "QuotaExhausted")
            assert [announced(one) for one in found] == list(expected)
            return found

        return await eventually(look, what=f"the announcements {expected}")


def announced(record: EventRecord) -> int | str:
    if record.type == "QuotaExhausted":
        return "exhausted"
    return workspace.QuotaThresholdReached.FromString(record.payload.value).percent


@asynccontextmanager
async def quota_service(
    database: DatabaseUrls, nats_url: str = "", clock: SteppedClock | None = None, replicas: int = 1
) -> AsyncIterator[QuotaUnderTest]:
    """The service with its log; with NATS the relay runs too. Replicas share the clock; the first one is asked."""
    clock = clock or SteppedClock()
    await create_log(database)
    settings = Settings(postgres_url=database.quota, nats_url=nats_url, operator_token_sha256=sha256("operator").hex())
    kernels = [await open_kernel(settings, "quota", MIGRATIONS) for _ in range(replicas)]
    services = [QuotaService(kernel, clock, clock.wait) for kernel in kernels]
    stopping = asyncio.Event()
    runs = [asyncio.create_task(service.run(stopping)) for service in services]
    relay = asyncio.create_task(_relay(database, kernels[0])) if nats_url else None
    await eventually(lambda: all(service.server.port for service in services), what="the servers' start")

    def hint(_records: Sequence[EventRecord]) -> None:
        kernels[0].bus.hint_head()

    try:
        async with (
            appender_on(database.scheduler, hint) as log,
            grpc.aio.insecure_channel(f"127.0.0.1:{services[0].server.port}") as channel,
        ):
            quota = QuotaUnderTest(kernels[0], clock, log, channel)
            quota.token = await quota.admit(WORKSPACE)
            yield quota
    finally:
        stopping.set()
        if relay is not None:
            relay.cancel()
        _, stuck = await asyncio.wait([*runs, *([relay] if relay else [])], timeout=20)
        assert not stuck, f"these did not stop: {stuck}"
        for run in runs:
            run.result()
        for kernel in kernels:
            await kernel.close()


async def _relay(database: DatabaseUrls, kernel: Kernel) -> None:
    await lead(database.eventlog, "eventlog.relay", Relay(kernel.pool, kernel.bus).lead)
