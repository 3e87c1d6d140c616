"""The log that is written at once for tests and measurements keeps the rules of a log that grew."""

import itertools

from protos.events.v1.workspace_pb2 import WorkspaceCreated
from services.clock import PlatformClock
from services.eventlog.append import Append, StreamAppend
from services.eventlog.catalogue import payload_of
from services.eventlog.read import read_range
from services.quota.domain.attempt import charge
from services.quota.domain.ledger import Ledger
from tests.support.bulk_log import WORKSPACE, write_bulk_log
from tests.support.fleet_history import Step, fleet_history
from tests.support.log import appender_on, create_log, pool_on
from tests.support.platform import DatabaseUrls

EVENTS = 3000
NOW_MS = PlatformClock().now_ms()


async def test_a_bulk_log_has_no_hole_and_time_never_goes_back(database: DatabaseUrls) -> None:
    await create_log(database)
    written = await write_bulk_log(database.eventlog, EVENTS, NOW_MS)
    async with pool_on(database.eventlog) as pool:
        records = [record async for page in read_range(pool, 1, EVENTS) for record in page]
    assert [record.position for record in records] == list(range(1, EVENTS + 1))
    stamps = [record.recorded_at_us for record in records]
    assert stamps == sorted(stamps)
    assert stamps[-1] // 1000 == written.last_ms <= NOW_MS
    versions: dict[str, int] = {}
    for record in records:
        assert record.stream_version == versions.get(record.stream_id, 0) + 1
        versions[record.stream_id] = record.stream_version
        assert payload_of(record).IsInitialized()


async def test_an_appender_goes_on_where_a_bulk_log_ends(database: DatabaseUrls) -> None:
    await create_log(database)
    await write_bulk_log(database.eventlog, EVENTS, NOW_MS)
    # The workspace's stream has three events; an expectation that is right shows that its version is known.
    more = StreamAppend("workspace", WORKSPACE, 3, [WorkspaceCreated(name="again")])
    async with appender_on(database.scheduler) as appender:
        appended = await appender.append(Append(WORKSPACE, [more], actor="service:test"))
    assert appended.position == EVENTS + 1


async def test_the_trainings_of_a_bulk_log_have_whole_lives(database: DatabaseUrls) -> None:
    await create_log(database)
    await write_bulk_log(database.eventlog, EVENTS, NOW_MS)
    ledger = Ledger()
    async with pool_on(database.eventlog) as pool:
        async for page in read_range(pool, 1, EVENTS):
            for record in page:
                ledger.take(record)
    ended = [attempt for attempt in ledger.attempts.values() if attempt.outcome is not None]
    assert len(ended) > EVENTS // 15
    assert all(attempt.assigned and attempt.started and charge(attempt, NOW_MS) for attempt in ended)


def test_the_same_seed_makes_the_same_history() -> None:
    def history(seed: int) -> list[Step]:
        return list(itertools.islice(fleet_history(seed, boxes=3, start_ms=NOW_MS), 300))

    assert history(1) == history(1)
    assert history(1) != history(2)
