"""Aggregates as they were: the fold from snapshots is the plain fold of the log, at every position."""

import random
from bisect import bisect_right
from collections import defaultdict
from typing import Any

import asyncpg
import pytest

from services.eventlog.catalogue import payload_of
from services.eventlog.read import read_range
from services.migrations import migrate
from services.postgres import Pool
from services.scheduler.bootstrap import MIGRATIONS
from services.scheduler.domain import job as jobs
from services.scheduler.domain import runner as runners
from services.scheduler.history import History
from services.scheduler.snapshots import Snapshots
from services.scheduler.store import envelope_of
from tests.support.bulk_log import write_bulk_log
from tests.support.given import T0
from tests.support.log import create_log, pool_on
from tests.support.platform import DatabaseUrls

EVOLVE: dict[str, Any] = {"runner": runners.evolve, "job": jobs.evolve}
EVENTS = 2500


class Plain:
    """Every state that every aggregate ever had, folded from the first event without any short cut."""

    def __init__(self) -> None:
        self.positions: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.states: dict[tuple[str, str], list[Any]] = defaultdict(list)

    async def read(self, pool: Pool) -> "Plain":
        async for page in read_range(pool, 1, EVENTS):
            for record in page:
                if (evolve := EVOLVE.get(record.stream_kind)) is not None:
                    key = (record.stream_kind, record.stream_id)
                    before = self.states[key][-1] if self.states[key] else None
                    self.states[key].append(evolve(before, payload_of(record), envelope_of(record)))
                    self.positions[key].append(record.position)
        return self

    def ids(self, kind: str) -> list[str]:
        return [id_ for of, id_ in self.states if of == kind]

    def at(self, kind: str, position: int) -> list[Any]:
        """All that there were, in the order of `ids`."""
        found = []
        for key, states in self.states.items():
            if key[0] == kind and (known := bisect_right(self.positions[key], position)):
                found.append(states[known - 1])
        return found


async def prepared(database: DatabaseUrls, seed: int) -> None:
    await create_log(database)
    connection = await asyncpg.connect(database.scheduler)
    await migrate(connection, "scheduler", MIGRATIONS)
    await connection.close()
    await write_bulk_log(database.eventlog, EVENTS, T0, seed)


async def same(history: History, plain: Plain, position: int) -> bool:
    found = await history.runners(plain.ids("runner"), position), await history.jobs(plain.ids("job"), position)
    return found == (plain.at("runner", position), plain.at("job", position))


@pytest.mark.parametrize("seed", [1, 2])
async def test_as_of_any_position_an_aggregate_is_what_a_plain_replay_says_whatever_snapshots_there_are(
    database: DatabaseUrls, seed: int
) -> None:
    chance = random.Random(seed)
    await prepared(database, seed)
    async with pool_on(database.scheduler) as pool:
        plain = await Plain().read(pool)
        longest = max(map(len, plain.states.values()))
        # So few of so many that the longest streams have them further apart than the others.
        history = History(pool, Snapshots(pool, every=7, most=longest // 21))
        for position in [0, 1, 2, 5, EVENTS, *chance.choices(range(EVENTS), k=40)]:
            assert await same(history, plain, position), position
            if chance.random() < 0.1:
                await pool.execute("delete from scheduler.snapshots where abs(hashtext(id)) % 2 = 0")
        kept = await pool.fetch("select id, count(*) from scheduler.snapshots group by 1")
        assert len(kept) > 3
        assert max(count for _, count in kept) <= longest // 21
        versions = [row["version"] for row in await pool.fetch("select version from scheduler.snapshots")]
        assert all(version % 7 == 0 for version in versions)
        assert any(version % 28 for version in versions)


async def test_snapshots_of_another_log_or_of_other_code_are_not_read_and_go(database: DatabaseUrls) -> None:
    await prepared(database, 3)
    async with pool_on(database.scheduler) as pool:
        plain = await Plain().read(pool)
        history = History(pool, Snapshots(pool, every=7))
        for spoil in ("log_id = gen_random_uuid()", r"fingerprint = '\x00'"):
            assert await same(history, plain, EVENTS)
            assert await pool.fetchval("select count(*) from scheduler.snapshots where state <> '{}'")
            await pool.execute(f"update scheduler.snapshots set state = '{{}}', {spoil}")
        assert await same(history, plain, EVENTS)
        assert not await pool.fetchval("select count(*) from scheduler.snapshots where state = '{}'")


async def test_what_is_folded_often_is_replayed_from_near_by_and_a_short_way_leaves_nothing(
    database: DatabaseUrls,
) -> None:
    await prepared(database, 4)
    async with pool_on(database.scheduler) as pool:
        plain = await Plain().read(pool)
        snapshots = Snapshots(pool, every=50)
        history, (box, *_) = History(pool, snapshots), plain.ids("runner")
        positions = plain.positions["runner", box]
        await history.runners([box], positions[49])
        assert await pool.fetchval("select count(*) from scheduler.snapshots") == 0
        await history.runners([box], positions[130])
        kept = await pool.fetch("select version, position from scheduler.snapshots order by 1")
        assert [tuple(row) for row in kept] == [(50, positions[49]), (100, positions[99])]
        fingerprint: bytes = await pool.fetchval("select min(fingerprint) from scheduler.snapshots")
        start = (await snapshots.starts("runner", [box], positions[99], fingerprint))[box]
        assert start.snapshot.version == 100
        before = (await snapshots.starts("runner", [box], positions[99] - 1, fingerprint))[box]
        assert before.snapshot.version == 50
