"""The quota service, a whole log behind: how fast its read model comes, and what memory that takes."""

import time
from collections.abc import Callable

from services.postgres import Pool
from tests.bench.process_cost import cpu_s, peak_bytes, resident_bytes
from tests.bench.service import service_process
from tests.support.eventually import eventually
from tests.support.platform import DatabaseUrls

_POSITION = "select position from quota.checkpoints where name = 'charges'"
_TIMEOUT_S = 1200
_MIB = 1 << 20

Report = Callable[[str, float], None]


async def measure_catchup(report: Report, database: DatabaseUrls, pool: Pool, head: int) -> None:
    """catchup_events_per_s: from the start of the process, which takes a second, to the head of the log.

    Beside it: the processor time that the service took of it, its memory once it answers, and the most that it took.
    """
    began = time.perf_counter()
    async with service_process("quota", database) as service:
        start_bytes = resident_bytes(service.pid)
        await eventually(lambda: _reached(pool, head), _TIMEOUT_S, "the head of the log")
        took_s = time.perf_counter() - began
        report("catchup_events_per_s", head / took_s)
        report("catchup_cpu_share", cpu_s(service.pid) / took_s)
        report("catchup_start_mib", start_bytes / _MIB)
        report("catchup_peak_mib", peak_bytes(service.pid) / _MIB)


async def _reached(pool: Pool, position: int) -> bool:
    known: int | None = await pool.fetchval(_POSITION)
    return known is not None and known >= position
