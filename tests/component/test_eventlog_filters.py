"""EventLogService chooses from the log what a plain look at every event would choose, in pages of bounded size."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import pytest

from protos.eventlog.v1 import eventlog_pb2 as pb
from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub
from protos.events.v1 import workspace_pb2 as workspace
from services.eventlog import api, bootstrap, scan
from services.ids import sha256
from tests.support.eventually import eventually
from tests.support.filled_log import append_raw, eventlog_process, fill, numbered
from tests.support.histories import WORKSPACES, history, record
from tests.support.platform import DatabaseUrls
from tests.support.servers import OPERATOR_TOKEN, bearer, eventlog_settings, running

OPERATOR = bearer(OPERATOR_TOKEN)
ANALYST = "tt_analyst_of_ws_1"
_MIB = 1 << 20


def token(role: workspace.Role.ValueType = workspace.ROLE_ANALYST) -> pb.EventRecord:
    made = workspace.TokenCreated(token_id="tok_a", role=role, token_sha256=sha256(ANALYST))
    return record(1, made, ("workspace", WORKSPACES[0]))


def several_histories(chance: random.Random, jobs: int) -> list[pb.EventRecord]:
    """A log in which moments repeat and pause, and ids of different kinds and workspaces mix."""
    return numbered([token(), *history(chance, jobs)])


async def read(log: EventLogServiceStub, auth: object, request: pb.ReadEventsRequest) -> list[pb.ReadEventsResponse]:
    return [page async for page in log.ReadEvents(request, metadata=auth, timeout=60)]


def events(pages: Sequence[pb.ReadEventsResponse]) -> list[pb.EventRecord]:
    return [one for page in pages for one in page.events]


def random_request(chance: random.Random, known: Sequence[pb.EventRecord]) -> pb.ReadEventsRequest:
    """Any range and filter, of which many fit something."""
    some = [chance.choice(known) for _ in range(4)]
    request = pb.ReadEventsRequest()
    if chance.random() < 0.5:
        request.from_position = some[0].position
    if chance.random() < 0.4:
        request.to_position = max(request.from_position, some[1].position + chance.choice((0, 10**6)))
    moments = sorted(one.recorded_at_us // 1000 + chance.choice((-1, 0, 1)) for one in some[:2])
    if chance.random() < 0.4:
        request.from_ms = moments[0]
    if chance.random() < 0.4 and moments[0] < moments[1]:
        request.to_ms = moments[1]
    if chance.random() < 0.5:
        request.filter.types.extend({one.type for one in some[: chance.randint(1, 3)]})
    if chance.random() < 0.4:
        request.filter.stream_id = some[2].stream_id
    if chance.random() < 0.4:
        request.filter.stream_kind = chance.choice((some[2].stream_kind, "runner"))
    if chance.random() < 0.3:
        request.filter.workspace_id = chance.choice((*WORKSPACES, "ws_nowhere"))
    return request


def brute_force(known: Sequence[pb.EventRecord], request: pb.ReadEventsRequest) -> list[int]:
    wanted, found = request.filter, []
    for one in known:
        at_us = one.recorded_at_us
        fits = request.from_position <= one.position <= (request.to_position or one.position)
        fits = fits and request.from_ms * 1000 <= at_us and (not request.to_ms or at_us < request.to_ms * 1000)
        fits = fits and (not wanted.types or one.type in wanted.types)
        for field in ("stream_kind", "stream_id", "workspace_id"):
            fits = fits and getattr(wanted, field) in ("", getattr(one, field))
        if fits:
            found.append(one.position)
    return found


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_range_and_filter_gives_what_a_look_at_every_event_would_give(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    known = several_histories(chance, jobs=40)
    # Many statements for a log of hundreds.
    monkeypatch.setattr(scan, "_WINDOW", 37)
    await fill(database, known)
    async with (
        running(bootstrap.serve, eventlog_settings(database.eventlog)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        log = EventLogServiceStub(channel)
        for _ in range(80):
            request = random_request(chance, known)
            pages = await read(log, OPERATOR, request)
            assert [one.position for one in events(pages)] == brute_force(known, request), str(request)
            scanned = [page.scanned_position for page in pages]
            assert scanned == sorted(scanned)
            last = min(request.to_position or len(known), len(known))
            if not request.to_ms and scanned[0] < last:
                assert scanned[-1] == last, "everything that was asked for was looked at"
            if not request.to_position and not request.from_ms and not request.to_ms:
                tailed = await tail(log, request, len(known))
                assert tailed == brute_force(known, request), str(request)


async def tail(log: EventLogServiceStub, request: pb.ReadEventsRequest, head: int) -> list[int]:
    """What a tail tells of what is there already, up to the head: one more event says that it is through."""
    asked = pb.TailEventsRequest(from_position=request.from_position or 1, filter=request.filter)
    call = log.TailEvents(asked, metadata=OPERATOR, timeout=60)
    told: list[int] = []
    expected = await read(log, OPERATOR, pb.ReadEventsRequest(from_position=asked.from_position, filter=asked.filter))
    while len(told) < len(events(expected)):
        told += [one.position for one in (await call.read()).events]
    call.cancel()
    return told


async def test_a_workspace_s_own_token_reads_its_workspace_and_is_told_so_where_it_asks_for_another(
    database: DatabaseUrls,
) -> None:
    known = several_histories(random.Random(5), jobs=10)
    await fill(database, known)
    async with (
        running(bootstrap.serve, eventlog_settings(database.eventlog)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        log, auth = EventLogServiceStub(channel), bearer(ANALYST)
        own = [one.position for one in known if one.workspace_id == WORKSPACES[0]]
        for named in ("", WORKSPACES[0]):
            request = pb.ReadEventsRequest(filter=pb.EventFilter(workspace_id=named))
            assert [one.position for one in events(await read(log, auth, request))] == own
        for named in (WORKSPACES[1], "ws_nowhere"):
            wanted = pb.EventFilter(workspace_id=named)
            for call in (
                log.ReadEvents(pb.ReadEventsRequest(filter=wanted), metadata=auth),
                log.TailEvents(pb.TailEventsRequest(filter=wanted), metadata=auth),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call.read()
                assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
                assert f"this token reads the workspace {WORKSPACES[0]} only" in (refused.value.details() or "")


async def test_a_range_or_kind_that_cannot_be_is_refused_with_the_rule(database: DatabaseUrls) -> None:
    async with (
        running(bootstrap.serve, eventlog_settings(database.eventlog)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for request, words in (
            (pb.ReadEventsRequest(from_ms=-1), "from_ms is '-1'"),
            (pb.ReadEventsRequest(from_ms=5, to_ms=5), "it must be later than from_ms 5"),
            (pb.ReadEventsRequest(filter=pb.EventFilter(stream_kind="boxes")), "runner, job, workspace"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await EventLogServiceStub(channel).ReadEvents(request, metadata=OPERATOR).read()
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert words in (refused.value.details() or "")


def named(size_bytes: int) -> pb.EventRecord:
    return record(1, workspace.WorkspaceCreated(name="x" * size_bytes), ("workspace", WORKSPACES[0]))


async def test_no_response_is_larger_than_2_mib_unless_one_event_is(database: DatabaseUrls) -> None:
    sizes = [300_000] * 12 + [3 * _MIB] + [100] * 5000 + [_MIB] * 3 + [5 * _MIB, 10]
    await fill(database, numbered([named(size) for size in sizes]))
    async with (
        running(bootstrap.serve, eventlog_settings(database.eventlog)) as address,
        grpc.aio.insecure_channel(address, options=[("grpc.max_receive_message_length", 16 * _MIB)]) as channel,
    ):
        log = EventLogServiceStub(channel)
        pages = await read(log, OPERATOR, pb.ReadEventsRequest())
        told = [
            page
            async for page in few(log.TailEvents(pb.TailEventsRequest(from_position=1), metadata=OPERATOR), len(sizes))
        ]
    for answers in (pages, told):
        assert [one.position for one in events(answers)] == list(range(1, len(sizes) + 1))
        assert [page.ByteSize() for page in answers if page.ByteSize() > 2.1 * _MIB and len(page.events) > 1] == []


async def few(call: object, count: int):  # type: ignore[no-untyped-def]
    """The pages of a tail until they hold `count` events."""
    seen = 0
    while seen < count:
        page = await call.read()  # type: ignore[attr-defined]
        seen += len(page.events)
        yield page
    call.cancel()  # type: ignore[attr-defined]


def memory_bytes(pid: int) -> int:
    """Resident memory that is the process's own."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) * 1024


async def test_readers_who_stop_make_the_server_wait_and_not_grow(database: DatabaseUrls) -> None:
    await fill(database, numbered([named(20_000) for _ in range(6000)]))  # 120 MB
    async with eventlog_process(database) as (address, pid), grpc.aio.insecure_channel(address) as channel:
        log = EventLogServiceStub(channel)
        # What the process needs for one reader, once.
        await log.ReadEvents(pb.ReadEventsRequest(to_position=200), metadata=OPERATOR).read()
        before = memory_bytes(pid)
        calls = [
            *(log.ReadEvents(pb.ReadEventsRequest(), metadata=OPERATOR) for _ in range(2)),
            *(log.TailEvents(pb.TailEventsRequest(from_position=1), metadata=OPERATOR) for _ in range(2)),
        ]
        for call in calls:
            while not (await call.read()).events:
                pass
        await settled(lambda: memory_bytes(pid))
        grown_mib = (memory_bytes(pid) - before) / _MIB
        assert grown_mib < 100, f"four readers who stopped cost {grown_mib:.0f} MiB of 4 × 120"
        for call in calls:
            call.cancel()
        # The server goes on for others.
        pages = await read(log, OPERATOR, pb.ReadEventsRequest(from_position=5900))
        assert len(events(pages)) == 101


async def settled(measure: Callable[[], int]) -> None:
    """Until a figure has stood still within a megabyte for half a second."""
    last, same = measure(), 0

    def look() -> bool:
        nonlocal last, same
        now = measure()
        same = same + 1 if abs(now - last) < _MIB else 0
        last = now
        return same >= 25

    await eventually(look, what="memory that stands still")


async def test_the_first_response_says_where_a_range_of_time_begins(database: DatabaseUrls) -> None:
    known = several_histories(random.Random(9), jobs=5)
    await fill(database, known)
    middle = known[len(known) // 2]
    async with (
        running(bootstrap.serve, eventlog_settings(database.eventlog)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        request = pb.ReadEventsRequest(from_ms=middle.recorded_at_us // 1000)
        first, *_ = await read(EventLogServiceStub(channel), OPERATOR, request)
    before = [one.position for one in known if one.recorded_at_us < request.from_ms * 1000]
    assert (first.scanned_position, list(first.events)) == (before[-1] if before else 0, [])


async def test_a_tail_says_how_far_it_has_looked_where_nothing_fits(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "KEEP_ALIVE_S", 0.1)
    monkeypatch.setattr(api, "RECHECK_S", 0.05)
    known = several_histories(random.Random(8), jobs=5)
    await fill(database, known)
    async with (
        running(bootstrap.serve, eventlog_settings(database.eventlog)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        wanted = pb.EventFilter(types=["RunnerUninstalled"])
        request = pb.TailEventsRequest(from_position=1, filter=wanted)
        call = EventLogServiceStub(channel).TailEvents(request, metadata=OPERATOR, timeout=60)
        more = record(1, workspace.WorkspaceCreated(), ("workspace", "ws_3"))
        more.position = len(known) + 1
        async with asyncio.timeout(20):
            while (await call.read()).scanned_position < len(known):
                pass
            await append_raw(database, [more])
            while (await call.read()).scanned_position < len(known) + 1:
                pass
        call.cancel()
