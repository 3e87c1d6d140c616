"""The read model is a function of the log: in whatever steps it is written, wherever it dies, however far behind."""

import asyncio
import gc
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import workspace_pb2 as ev
from services.eventlog import projection as projections
from services.eventlog.bus import Bus, subject
from services.eventlog.read import read_head, read_page
from services.postgres import Pool
from services.quota.verify import verify
from tests.support.bulk_log import WORKSPACE, write_bulk_log
from tests.support.eventually import eventually
from tests.support.filled_log import append_raw
from tests.support.histories import WORKSPACES, history, record
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls, SharedNats, SharedPostgres
from tests.support.postgres_proxy import cut_connection
from tests.support.quota import NOON_MS
from tests.support.read_model import apply_in, catch_up, dump, forget, prepare, projecting, settled_minutes
from tests.support.slow_minutes import minutes_by_month

# Statements of the projection's connection before the first of its own: the leadership.
FIRST_STATEMENT = 1


def in_cuts(records: Sequence[EventRecord], chance: random.Random) -> list[Sequence[EventRecord]]:
    cuts = sorted({0, len(records), *(chance.randint(0, len(records)) for _ in range(chance.randint(1, 8)))})
    return [records[first:last] for first, last in pairwise(cuts)]


def announcements(chance: random.Random, after: EventRecord) -> list[EventRecord]:
    """What the quota's timer may have said last, in any order."""
    said: list[EventRecord] = []
    for number in range(1, 25):
        period = chance.choice(("2026-11", "2026-12"))
        event: Message = chance.choice(
            (
                ev.QuotaThresholdReached(period=period, percent=chance.choice((75, 90, 100))),
                ev.QuotaExhausted(period=period),
                ev.QuotaReplenished(period=period),
                ev.QuotaSet(quota_milliminutes=number),
            )
        )
        stream = ("workspace", chance.choice(WORKSPACES))
        at_ms = after.recorded_at_us // 1000
        # Far above the versions that the history gave them.
        said.append(record(after.position + number, event, stream, 1000 + number, at_ms, stream[1]))
    return said


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_rows_written_one_event_at_a_time_or_in_any_batches_are_those_of_a_replay(
    database: DatabaseUrls, seed: int
) -> None:
    records = history(random.Random(seed), jobs=8)
    records += announcements(random.Random(seed), records[-1])
    await prepare(database, records)
    replayed = await apply_in(database, [records])
    assert await apply_in(database, [[one] for one in records]) == replayed
    for cuts in range(3):
        assert await apply_in(database, in_cuts(records, random.Random(100 * seed + cuts))) == replayed
    # At moment zero nothing has accrued: what is left is settled.
    assert settled_minutes(replayed) == minutes_by_month(records, 0)
    assert replayed["thresholds"]
    assert replayed["exhaustions"]


class ThreePages:
    """The log in three pages at most, as a subscription that then waits."""

    def __init__(self, pool: Pool, bus: Bus, position: int) -> None:
        self._pool, self._position = pool, position

    async def batches(self):  # type: ignore[no-untyped-def]
        head = (await read_head(self._pool)).position
        size = head // 3 + 1
        while page := await read_page(self._pool, self._position + 1, head, limit=size):
            self._position = page[-1].position
            yield page
        await asyncio.Event().wait()


async def killed_at(database: DatabaseUrls, pool: Pool, statement: int, after: bool) -> bool:
    """Rebuild from nothing and die at a statement, then start anew. False where it was through before."""
    await forget(database)
    async with cut_connection(database.quota, statement, after) as way, projecting(way.url, pool) as projection:
        head = (await read_head(pool)).position

        async def through() -> bool:
            return way.cut.is_set() or await projection.position() == head

        await eventually(through, what="the cut, or the head")
        was_cut = way.cut.is_set()
    await catch_up(database)
    return was_cut


async def every_step(database: DatabaseUrls, seed: int, both: bool) -> int:
    """Kill at each statement in turn, before it reaches the server or before its answer does; returns how many."""
    print(f"seed {seed}")
    records = history(random.Random(seed), jobs=6)
    await prepare(database, records)
    clean = await apply_in(database, [records])
    statement = FIRST_STATEMENT
    async with pool_on(database.quota) as pool:
        while True:
            cut = False
            for after in (False, True) if both else (statement % 2 == 1,):
                cut = await killed_at(database, pool, statement, after)
                assert await dump(database) == clean, f"killed {'after' if after else 'before'} statement {statement}"
            if not cut:
                return statement - 1
            statement += 1


async def test_killed_at_every_step_and_started_anew_it_is_as_if_nothing_had_happened(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "Subscription", ThreePages)
    assert await every_step(database, seed=5, both=False) > 30


@pytest.mark.slow
@pytest.mark.parametrize("seed", [6, 7])
async def test_killed_before_and_after_every_statement(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(projections, "Subscription", ThreePages)
    assert await every_step(database, seed=seed, both=True) > 30


async def test_what_the_bus_delivers_twice_late_out_of_order_or_not_at_all_changes_nothing(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    chance = random.Random(8)
    records = history(chance, jobs=10)
    await prepare(database, records[:10])
    bus = Bus(own_nats.url, "test")
    bus.start()
    async with asyncio.timeout(10):
        await bus.connected.wait()
    client = bus.client
    assert client is not None  # connected
    async with pool_on(database.quota) as pool, projecting(database.quota, pool, bus) as projection:
        for first in range(10, len(records), 7):
            await append_raw(database, records[first : first + 7])
            told = [*records[first : first + 7], *chance.sample(records[: first + 7], 5)]
            chance.shuffle(told)
            for one in told[chance.randint(0, 4) :]:
                await client.publish(subject(one.workspace_id, one.stream_kind, one.type), one.SerializeToString())
            await client.publish(subject("ws_1", "job", "JobStarted"), b"no event at all")

        async def there() -> bool:
            return await projection.position() == len(records)

        await eventually(there, what="the head")
    await bus.stop()
    projected = await dump(database)
    assert projected == await apply_in(database, [records])


# Beyond what was there before: a page of events in flight, and what Python keeps of what it has freed.
GROWTH_BYTES = 32 << 20


async def far_behind(postgres: SharedPostgres, events: int) -> None:
    """A read model that starts at the first event reaches the head, and this process does not grow with the log."""
    small, database = await postgres.fresh_database(), await postgres.fresh_database()
    # What is loaded and kept once is not growth.
    await prepare(small, history(random.Random(1)))
    await catch_up(small)
    await prepare(database, [])
    bulk = await write_bulk_log(database.eventlog, events, NOON_MS)
    gc.collect()
    before_bytes = peak_resident_bytes(anew=True)
    await catch_up(database, timeout_s=events / 1000)
    grown = peak_resident_bytes() - before_bytes
    print(f"{events} events: {grown / (1 << 20):.1f} MiB more at the peak")
    assert grown < GROWTH_BYTES
    async with pool_on(database.quota) as pool:
        found = await verify(pool, WORKSPACE, "", bulk.last_ms)
    assert (found.position, found.differences) == (bulk.head, [])
    for one in (small, database):
        await postgres.drop_database(one.name)


def peak_resident_bytes(anew: bool = False) -> int:
    """The most memory that this process has had; `anew` forgets the peaks of the past."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def test_far_behind_it_catches_up_without_growing_with_the_log(postgres: SharedPostgres) -> None:
    await far_behind(postgres, 50_000)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_million_events_behind_it_catches_up_without_growing_with_the_log(postgres: SharedPostgres) -> None:
    await far_behind(postgres, 1_000_000)
