"""The appender at saturation, beside what PostgreSQL itself takes in the same run, and the peer."""

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from protos.events.v1.job_pb2 import JobStarted
from services.eventlog.append import Append, StreamAppend
from services.eventlog.catalogue import EventRow
from services.postgres import connect
from services.rpc.process import spare_the_collector
from tests.bench.peer import measure_peer_appends
from tests.bench.servers import fresh_log
from tests.support.log import appender_on
from tests.support.platform import DatabaseUrls

Report = Callable[[str, float], None]

_WAITING = 3000
_EVENTS = 60_000
_ROUNDS = 3
_RAW_BATCH = 1000
_EVENT = JobStarted(attempt_id="at_k3v9q2m7x4p8w1zt", started_at_ms=1_790_000_000_000, weights="random")


def run(report: Report, folder: Path) -> None:
    """append_events_per_s: durable, one event a command, 3,000 commands waiting; the best of three rounds."""
    # As every service process does at its start.
    spare_the_collector()
    with fresh_log(folder) as database:
        uvloop.run(_measure(report, database))
        measure_peer_appends(report, database, _EVENTS // 3)


async def _measure(report: Report, database: DatabaseUrls) -> None:
    # In turn, so that a machine whose speed drifts drifts for both.
    ours, alone, raw = [], [], []
    for number in range(_ROUNDS):
        ours.append(await _appends(database, number, _WAITING, _EVENTS))
        alone.append(await _appends(database, 100 + number, 1, 300))
        raw.append(await _copies(database, number))
    report("append_events_per_s", max(ours))
    report("append_alone_events_per_s", max(alone))
    report("raw_copy_events_per_s", max(raw))


async def _appends(database: DatabaseUrls, number: int, waiting: int, events: int) -> float:
    async with appender_on(database.scheduler) as appender:

        async def one_after_another(worker: int) -> None:
            for n in range(events // waiting):
                stream = StreamAppend("job", f"jb_{number}_{worker}_{n}", 0, [_EVENT])
                await appender.append(Append("ws_bench", [stream], actor="service:bench"))

        began = time.perf_counter()
        await asyncio.gather(*map(one_after_another, range(waiting)))
        return events / (time.perf_counter() - began)


async def _copies(database: DatabaseUrls, number: int) -> float:
    """The same rows into a table of the same shape: an index less, no lock, no versions, a durable commit a batch."""
    connection = await connect(database.admin, "bench")
    try:
        await connection.execute("create table if not exists raw (like eventlog.events including indexes)")
        now, payload = datetime.now(UTC), _EVENT.SerializeToString()
        began = time.perf_counter()
        for first in range(0, _EVENTS, _RAW_BATCH):
            rows = [
                EventRow(
                    number * _EVENTS + n,
                    uuid.UUID(bytes=os.urandom(16)),
                    "ws_bench",
                    "job",
                    f"jb_{number}_{n}",
                    1,
                    "JobStarted",
                    1,
                    payload,
                    now,
                    "service:bench",
                    "",
                    "",
                )
                for n in range(first, first + _RAW_BATCH)
            ]
            await connection.copy_records_to_table("raw", columns=EventRow._fields, records=rows)
        return _EVENTS / (time.perf_counter() - began)
    finally:
        await connection.close()
