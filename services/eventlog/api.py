"""EventLogService: the log for analysts and tools."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from protos.eventlog.v1 import eventlog_pb2 as pb
from protos.eventlog.v1 import eventlog_pb2_grpc as pb_grpc
from services.eventlog.catalogue import EVENTS
from services.eventlog.read import Filter, read_head, read_range
from services.eventlog.subscribe import Subscription
from services.rpc.credentials import OPERATOR, Principal
from services.rpc.errors import InvalidField
from services.rpc.kernel import Kernel
from services.rpc.shell import KEEP_ALIVE_S, RECHECK_S, caller, settle

# A response is at most a few megabytes: most events have well under a kilobyte.
_PAGE = 1000
# Pages that may wait for a slow reader; the reader then reads at its own speed.
_MAX_WAITING_PAGES = 4


class EventLogApi(pb_grpc.EventLogServiceServicer):
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def GetHead(
        self, request: pb.GetHeadRequest, context: grpc.aio.ServicerContext[pb.GetHeadRequest, pb.GetHeadResponse]
    ) -> pb.GetHeadResponse:
        head = await read_head(self._kernel.pool)
        return pb.GetHeadResponse(position=head.position, recorded_at_us=head.recorded_at_us, log_id=head.log_id)

    async def ReadEvents(
        self,
        request: pb.ReadEventsRequest,
        context: grpc.aio.ServicerContext[pb.ReadEventsRequest, pb.ReadEventsResponse],
    ) -> AsyncIterator[pb.ReadEventsResponse]:
        principal = caller()
        matching = _filter(request.filter, principal)
        first, last = _range(request)
        head = (await read_head(self._kernel.pool)).position
        last = min(last or head, head)
        async for page in read_range(self._kernel.pool, first, last, matching, _PAGE):
            self._kernel.shell.check_still_valid(principal)
            yield pb.ReadEventsResponse(events=page, scanned_position=page[-1].position)
        yield pb.ReadEventsResponse(scanned_position=last)

    async def TailEvents(
        self,
        request: pb.TailEventsRequest,
        context: grpc.aio.ServicerContext[pb.TailEventsRequest, pb.TailEventsResponse],
    ) -> AsyncIterator[pb.TailEventsResponse]:
        principal = caller()
        matching = _filter(request.filter, principal)
        if request.from_position < 0:
            raise InvalidField("from_position", request.from_position, "positions count from 1; 0 means the head")
        after = request.from_position - 1 if request.from_position else (await read_head(self._kernel.pool)).position
        pages: asyncio.Queue[pb.TailEventsResponse] = asyncio.Queue(_MAX_WAITING_PAGES)
        reader = asyncio.create_task(self._tail(after, matching, pages))
        # The reader sees at once that the call is open, before anything happens.
        yield pb.TailEventsResponse(scanned_position=after)
        silent_s = 0.0
        try:
            while True:
                self._kernel.shell.check_still_valid(principal)
                try:
                    async with asyncio.timeout(RECHECK_S):
                        response = await pages.get()
                except TimeoutError:
                    silent_s += RECHECK_S
                    if reader.done():
                        reader.result()
                    if silent_s >= KEEP_ALIVE_S:
                        silent_s = 0.0
                        yield pb.TailEventsResponse()
                    continue
                silent_s = 0.0
                yield response
        finally:
            await settle(reader)

    async def _tail(self, after: int, matching: Filter, pages: "asyncio.Queue[pb.TailEventsResponse]") -> None:
        async for records in Subscription(self._kernel.pool, self._kernel.bus, after).batches():
            events = [record for record in records if matching.matches(record)]
            if events:
                await pages.put(pb.TailEventsResponse(events=events, scanned_position=records[-1].position))


def _range(request: pb.ReadEventsRequest) -> tuple[int, int]:
    if request.from_position < 0:
        raise InvalidField("from_position", request.from_position, "positions count from 1")
    if request.to_position and request.to_position < request.from_position:
        rule = f"it must not be below from_position {request.from_position}"
        raise InvalidField("to_position", request.to_position, rule)
    return max(request.from_position, 1), request.to_position


def _filter(wanted: pb.EventFilter, principal: Principal) -> Filter:
    """What the caller asked for, never beyond his workspace. Raises InvalidField for a type that does not exist."""
    for name in wanted.types:
        if name not in EVENTS:
            raise InvalidField("filter.types", name, f"it must be one of: {', '.join(sorted(EVENTS))}")
    workspace_id = "" if principal.role == OPERATOR else principal.workspace_id
    return Filter(workspace_id, tuple(wanted.types), wanted.stream_kind, wanted.stream_id)
