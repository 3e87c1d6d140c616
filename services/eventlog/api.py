"""EventLogService: the log for analysts and tools."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC

import grpc

from protos.eventlog.v1 import eventlog_pb2 as pb
from protos.eventlog.v1 import eventlog_pb2_grpc as pb_grpc
from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.catalogue import EVENTS
from services.eventlog.read import Filter, position_at, read_head
from services.eventlog.scan import KINDS, PAGE_BYTES, newest_from, scan
from services.eventlog.subscribe import LogReplaced, Subscription
from services.rpc.credentials import OPERATOR, Principal
from services.rpc.errors import InvalidField, OtherWorkspace, Unavailable
from services.rpc.kernel import Kernel
from services.rpc.shell import KEEP_ALIVE_S, RECHECK_S, caller, settle
from services.words.events import sentence

# Pages that may wait for a slow reader; the log is then read at his speed.
_MAX_WAITING_PAGES = 2
MAX_NEWEST = 10_000
# Characters; with its events' sentences a page remains a message that every client takes.
_MAX_SENTENCE = 1000
_SAID_AT_ONCE = 200


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
        _check_range(request)
        first, last = await self._range(request)
        if request.newest and first <= last:
            first = await newest_from(self._kernel.pool, first, last, matching, request.newest)
        # Says at once where the range begins, which a caller who named a time does not know.
        yield pb.ReadEventsResponse(scanned_position=first - 1)
        async for page in scan(self._kernel.pool, first, last, matching, pb.ReadEventsResponse):
            self._kernel.shell.check_still_valid(principal)
            if request.with_sentences:
                await _say(page.events)
            # Also without an event: the caller sees that it goes on.
            yield page

    async def _range(self, request: pb.ReadEventsRequest) -> tuple[int, int]:
        """First and last position of what was asked for, as the head is now; `last` may be below `first`."""
        pool = self._kernel.pool
        first, last = max(request.from_position, 1), (await read_head(pool)).position
        if request.to_position:
            last = min(last, request.to_position)
        if request.from_ms:
            first = max(first, await position_at(pool, request.from_ms - 1) + 1)
        if request.to_ms:
            last = min(last, await position_at(pool, request.to_ms - 1))
        return first, last

    async def TailEvents(
        self,
        request: pb.TailEventsRequest,
        context: grpc.aio.ServicerContext[pb.TailEventsRequest, pb.TailEventsResponse],
    ) -> AsyncIterator[pb.TailEventsResponse]:
        principal = caller()
        matching = _filter(request.filter, principal)
        if request.from_position < 0:
            raise InvalidField("from_position", request.from_position, "positions count from 1; 0 means the head")
        head = (await read_head(self._kernel.pool)).position
        after = request.from_position - 1 if request.from_position else head
        tail = _Tail(self._kernel, matching, after)
        reader = asyncio.create_task(tail.run(head))
        # The reader sees at once that the call is open, before anything happens.
        yield pb.TailEventsResponse(scanned_position=after)
        silent_s = 0.0
        try:
            while True:
                self._kernel.shell.check_still_valid(principal)
                try:
                    async with asyncio.timeout(RECHECK_S):
                        page = await tail.pages.get()
                except TimeoutError:
                    silent_s += RECHECK_S
                    if reader.done():
                        _tell_why(reader)
                    if silent_s < KEEP_ALIVE_S or not tail.pages.empty():
                        continue
                    page = pb.TailEventsResponse(scanned_position=tail.scanned)
                silent_s = 0.0
                if request.with_sentences:
                    await _say(page.events)
                yield page
        finally:
            await settle(reader)


async def _say(records: Sequence[EventRecord]) -> None:
    """Put the sentences into the records. Times in them are UTC: where the reader is, is not known here."""
    for number, record in enumerate(records, 1):
        said = sentence(record, UTC)
        record.sentence = said if len(said) <= _MAX_SENTENCE else said[: _MAX_SENTENCE - 1] + "…"
        if number % _SAID_AT_ONCE == 0:
            # Other calls get their turn.
            await asyncio.sleep(0)


def _tell_why(reader: "asyncio.Task[None]") -> None:
    """Raises what ended the reading of the log."""
    try:
        reader.result()
    except LogReplaced as error:
        raise Unavailable(f"{error}; connect again") from None


class _Tail:
    """Reads the log ahead of one caller, by a few pages at most. Use it once."""

    def __init__(self, kernel: Kernel, matching: Filter, after: int) -> None:
        self._kernel, self._matching = kernel, matching
        self.pages: asyncio.Queue[pb.TailEventsResponse] = asyncio.Queue(_MAX_WAITING_PAGES)
        # Everything up to here is in `pages`, or was taken from it, as far as it matches.
        self.scanned = after

    async def run(self, head: int) -> None:
        """What was there, as `head` was at the call, chosen in the database; then what comes, without end."""
        async for page in scan(self._kernel.pool, self.scanned + 1, head, self._matching, pb.TailEventsResponse):
            await self._put(page)
        async for records in Subscription(self._kernel.pool, self._kernel.bus, self.scanned).batches():
            events = [record for record in records if self._matching.matches(record)]
            for page in _split(events, records[-1].position):
                await self._put(page)

    async def _put(self, page: pb.TailEventsResponse) -> None:
        if page.events:
            await self.pages.put(page)
        self.scanned = page.scanned_position


def _split(events: list[EventRecord], scanned: int) -> Iterator[pb.TailEventsResponse]:
    """Pages of at most PAGE_BYTES; an event alone above it is a page of its own. The last one says `scanned`."""
    page: list[EventRecord] = []
    size_bytes = 0
    for event in events:
        more_bytes = event.ByteSize()
        if page and size_bytes + more_bytes > PAGE_BYTES:
            yield pb.TailEventsResponse(events=page, scanned_position=page[-1].position)
            page, size_bytes = [], 0
        page.append(event)
        size_bytes += more_bytes
    yield pb.TailEventsResponse(events=page, scanned_position=scanned)


def _check_range(request: pb.ReadEventsRequest) -> None:
    """Raises InvalidField for a range that cannot hold anything."""
    if request.from_position < 0:
        raise InvalidField("from_position", request.from_position, "positions count from 1")
    if request.to_position and request.to_position < request.from_position:
        rule = f"it must not be below from_position {request.from_position}"
        raise InvalidField("to_position", request.to_position, rule)
    for field in ("from_ms", "to_ms"):
        if getattr(request, field) < 0:
            raise InvalidField(field, getattr(request, field), "a moment is Unix milliseconds, above zero")
    if not 0 <= request.newest <= MAX_NEWEST:
        raise InvalidField("newest", request.newest, f"it must be from 1 to {MAX_NEWEST}, or 0 for all of the range")
    if request.to_ms and request.to_ms <= request.from_ms:
        raise InvalidField("to_ms", request.to_ms, f"it must be later than from_ms {request.from_ms}")


def _filter(wanted: pb.EventFilter, principal: Principal) -> Filter:
    """What the caller asked for, never beyond his workspace.

    Raises InvalidField for a type or kind that does not exist, OtherWorkspace for a workspace that is not his.
    """
    for name in wanted.types:
        if name not in EVENTS:
            raise InvalidField("filter.types", name, f"it must be one of: {', '.join(sorted(EVENTS))}")
    if wanted.stream_kind and wanted.stream_kind not in KINDS:
        raise InvalidField("filter.stream_kind", wanted.stream_kind, f"it must be one of: {', '.join(KINDS)}")
    workspace_id = wanted.workspace_id
    if principal.role != OPERATOR:
        if workspace_id not in ("", principal.workspace_id):
            raise OtherWorkspace("filter.workspace_id", workspace_id, principal.workspace_id)
        workspace_id = principal.workspace_id
    return Filter(workspace_id, tuple(wanted.types), wanted.stream_kind, wanted.stream_id)
