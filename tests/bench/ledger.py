"""What the log is for: read models that catch up, minutes that are folded again, and usage that is asked for."""

from collections.abc import Callable
from pathlib import Path

import uvloop

from services.postgres import connect
from services.rpc.process import spare_the_collector
from tests.bench.catchup import measure_catchup
from tests.bench.ledger_log import LedgerLog, ledger_log, measure_raw_reads
from tests.bench.many_jobs import multiply_jobs
from tests.bench.peer import measure_peer_replay
from tests.bench.replay import measure_replay, measure_verify
from tests.bench.service import service_process
from tests.bench.usage import measure_past_usage, measure_usage
from tests.support.log import pool_on

# The peer first has to write what it replays, which takes it ten times as long.
_PEER_SHARE = 10

Report = Callable[[str, float], None]


def run(report: Report, folder: Path) -> None:
    """catchup_events_per_s, replay_events_per_s and usage_ms, on one log; each beside what bounds it."""
    # As every service process does at its start.
    spare_the_collector()
    with ledger_log(folder) as ledger:
        report("ledger_events", ledger.log.head)
        uvloop.run(_measure(report, ledger))
        measure_peer_replay(report, ledger.database, ledger.log.head // _PEER_SHARE)


async def _measure(report: Report, ledger: LedgerLog) -> None:
    database, log = ledger.database, ledger.log
    await measure_raw_reads(report, database, log.head)
    await measure_replay(report, database, log.head)
    async with pool_on(database.quota) as pool:
        await measure_catchup(report, database, pool, log.head)
    async with pool_on(database.quota) as pool, service_process("quota", database) as quota:
        await measure_verify(report, quota)
        report("usage_jobs", await _multiply_jobs(ledger))
        await measure_usage(report, quota, pool)
        await measure_past_usage(report, quota, log.head)


async def _multiply_jobs(ledger: LedgerLog) -> int:
    """As many jobs as the log has events."""
    connection = await connect(ledger.database.admin, "bench")
    try:
        return await multiply_jobs(connection, -(-ledger.log.head // ledger.log.jobs) - 1, ledger.log.head)
    finally:
        await connection.close()
