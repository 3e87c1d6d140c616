"""EventLogService over real gRPC: ranges, filters, the live tail."""

import grpc
import pytest

from protos.eventlog.v1 import eventlog_pb2 as pb
from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub
from tests.support.control import Control, control_plane
from tests.support.platform import DatabaseUrls


async def read(log: EventLogServiceStub, control: Control, **wanted: object) -> list[pb.EventRecord]:
    pages = log.ReadEvents(pb.ReadEventsRequest(**wanted), metadata=control.auth)
    return [record async for page in pages for record in page.events]


async def test_a_range_is_told_in_order_and_filters_choose_from_it(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, grpc.aio.insecure_channel(control.eventlog_address) as channel:
        log = EventLogServiceStub(channel)
        for number in range(20):
            await control.create_runner(f"box {number}")
        everything = await read(log, control)
        assert [record.position for record in everything] == list(range(1, 23))
        some = await read(log, control, from_position=5, to_position=9)
        assert [record.position for record in some] == [5, 6, 7, 8, 9]
        tokens = await read(log, control, filter=pb.EventFilter(types=["TokenCreated"]))
        assert [record.type for record in tokens] == ["TokenCreated"]
        runner = everything[-1].stream_id
        one = await read(log, control, filter=pb.EventFilter(stream_kind="runner", stream_id=runner))
        assert [record.stream_id for record in one] == [runner]
        head = await log.GetHead(pb.GetHeadRequest(), metadata=control.auth)
        assert (head.position, head.recorded_at_us) == (22, everything[-1].recorded_at_us)


async def test_a_tail_tells_what_was_there_and_then_what_comes(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, grpc.aio.insecure_channel(control.eventlog_address) as channel:
        log = EventLogServiceStub(channel)
        tail = log.TailEvents(pb.TailEventsRequest(from_position=1), metadata=control.auth, timeout=30)
        told: list[int] = []
        while len(told) < 2:
            told += [record.position for record in (await tail.read()).events]
        for number in range(5):
            await control.create_runner(f"box {number}")
        while len(told) < 7:
            told += [record.position for record in (await tail.read()).events]
        assert told == list(range(1, 8))
        tail.cancel()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (pb.ReadEventsRequest(from_position=-1), "from_position is '-1'"),
        (pb.ReadEventsRequest(from_position=5, to_position=2), "to_position is '2'"),
        (pb.ReadEventsRequest(filter=pb.EventFilter(types=["JobExploded"])), "JobAssigned"),
    ],
)
async def test_a_wrong_request_is_told_what_is_right(
    database: DatabaseUrls, request_: pb.ReadEventsRequest, words: str
) -> None:
    async with control_plane(database) as control, grpc.aio.insecure_channel(control.eventlog_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await EventLogServiceStub(channel).ReadEvents(request_, metadata=control.auth).read()
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert words in (refused.value.details() or "")
