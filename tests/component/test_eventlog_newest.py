"""The newest events of a range, and events with a sentence for people."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import TYPE_CHECKING

import grpc
import pytest

from protos.eventlog.v1 import eventlog_pb2 as pb
from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub
from protos.events.v1 import job_pb2 as job
from services.eventlog import bootstrap, scan
from services.words.events import sentence
from tests.component.test_eventlog_filters import (
    OPERATOR,
    brute_force,
    events,
    random_request,
    read,
    several_histories,
)
from tests.support.filled_log import fill, numbered
from tests.support.histories import record
from tests.support.platform import DatabaseUrls
from tests.support.servers import eventlog_settings, running

if TYPE_CHECKING:
    from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceAsyncStub


@asynccontextmanager
async def served(database: DatabaseUrls, known: list[pb.EventRecord]) -> "AsyncIterator[EventLogServiceAsyncStub]":
    await fill(database, known)
    async with (
        running(bootstrap.serve, eventlog_settings(database.eventlog)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield EventLogServiceStub(channel)


async def test_the_newest_are_the_last_of_what_the_whole_range_gives(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(3)
    known = several_histories(chance, jobs=40)
    # Many statements for a log of hundreds.
    monkeypatch.setattr(scan, "_WINDOW", 37)
    async with served(database, known) as log:
        several = 0
        for _ in range(60):
            request = random_request(chance, known)
            request.newest = chance.choice((1, 2, 10, 10_000))
            pages = await read(log, OPERATOR, request)
            expected = brute_force(known, request)
            assert [one.position for one in events(pages)] == expected[-request.newest :], str(request)
            if len(expected) > request.newest:
                older = pb.ReadEventsRequest()
                older.CopyFrom(request)
                older.to_position, older.newest = pages[0].scanned_position, 0
                before = [one.position for one in events(await read(log, OPERATOR, older))]
                assert before == expected[: -request.newest], "the first answer says where the older ones end"
                several += 1
        assert several > 5


async def test_a_filter_that_fits_next_to_nothing_is_looked_for_so_far_and_no_further(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = numbered(
        [record(0, job.JobSubmitted(name="rare"), ("job", "jb_rare"))]
        + [record(0, job.JobStalled(), ("job", f"jb_{n % 7}")) for n in range(99)]
    )
    monkeypatch.setattr(scan, "_WINDOW", 8)
    monkeypatch.setattr(scan, "MOST_BACK", 30)
    rare = pb.EventFilter(types=["JobSubmitted"])
    async with served(database, known) as log:
        found = []
        to_position = 0
        for _ in range(4):
            request = pb.ReadEventsRequest(filter=rare, newest=2, to_position=to_position)
            pages = await read(log, OPERATOR, request)
            to_position = pages[0].scanned_position
            found.append((to_position, [one.position for one in events(pages)]))
        assert found == [(70, []), (40, []), (10, []), (0, [1])]
        # One stream is found by its index, however far back.
        rare.stream_kind, rare.stream_id = "job", "jb_rare"
        assert [
            one.position for one in events(await read(log, OPERATOR, pb.ReadEventsRequest(filter=rare, newest=2)))
        ] == [1]

        for wrong in (-1, 10_001):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await read(log, OPERATOR, pb.ReadEventsRequest(newest=wrong))
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "from 1 to 10000" in (refused.value.details() or "")


async def test_who_asks_is_told_each_event_in_the_words_of_the_terminal_with_times_in_utc(
    database: DatabaseUrls,
) -> None:
    stalled = record(0, job.JobStalled(since_ms=14 * 3_600_000, last_step=7))
    verbose = record(0, job.JobSubmitted(name="n", warnings=["w" * 700, "v" * 700]), ("job", "jb_2"))
    known = numbered([*several_histories(random.Random(9), jobs=5), stalled, verbose])
    async with served(database, known) as log:
        said = events(await read(log, OPERATOR, pb.ReadEventsRequest(with_sentences=True)))
        assert [one.sentence for one in said[:-1]] == [sentence(one, UTC) for one in known[:-1]]
        assert said[-2].sentence == "no optimiser step since 14:00:00 UTC; the last was step 7"
        assert (len(said[-1].sentence), said[-1].sentence[-1]) == (1000, "…")
        plain = events(await read(log, OPERATOR, pb.ReadEventsRequest()))
        assert plain == known, "nothing of it is in the log"

        for wanted in (True, False):
            asked = pb.TailEventsRequest(from_position=1, with_sentences=wanted)
            tail = log.TailEvents(asked, metadata=OPERATOR, timeout=30)
            told: list[pb.EventRecord] = []
            async for page in tail:
                told += page.events
                if len(told) == len(known):
                    break
            tail.cancel()
            assert told == (said if wanted else known)
