"""The log that the measurements of the ledger have in common, and what PostgreSQL itself takes to hand it out."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from services.postgres import Pool
from tests.bench.servers import fresh_log
from tests.support.bulk_log import BulkLog, write_bulk_log
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls

EVENTS = 1_000_000
# Events of the log, and jobs in the read model; all sizes of these measurements follow it.
VARIABLE = "TETHER_BENCH_EVENTS"

_PAGE = 10_000

Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class LedgerLog:
    """A log of a fleet at work, in a database of its own."""

    database: DatabaseUrls
    log: BulkLog


@contextmanager
def ledger_log(folder: Path) -> Iterator[LedgerLog]:
    """A million events, or as many as TETHER_BENCH_EVENTS says, that end about now."""
    events = int(os.environ.get(VARIABLE, EVENTS))
    with fresh_log(folder) as database:
        end_ms = time.time_ns() // 1_000_000
        yield LedgerLog(database, uvloop.run(write_bulk_log(database.eventlog, events, end_ms)))


async def measure_raw_reads(report: Report, database: DatabaseUrls, head: int) -> None:
    """raw_select_events_per_s: all columns of all events in order, page by page, and nothing made of them."""
    async with pool_on(database.eventlog) as pool:
        began = time.perf_counter()
        read = await _select(pool, "*", head)
        report("raw_select_events_per_s", read / (time.perf_counter() - began))


async def _select(pool: Pool, columns: str, head: int) -> int:
    read = 0
    for first in range(1, head + 1, _PAGE):
        rows = await pool.fetch(
            f"select {columns} from eventlog.events where position between $1 and $2 order by position",
            first,
            first + _PAGE - 1,
        )
        read += len(rows)
    return read
