"""The minutes folded anew, in a process of its own: `python -m tests.bench.replay_process URL WORKSPACE HEAD`.

Prints one JSON document: seconds, events folded, and memory in MiB before and at the most.
"""

import json
import os
import sys
import time

import uvloop

from services.postgres import connect
from services.quota.domain.attempt import settled_by_period
from services.quota.replay import replay_jobs
from services.rpc.process import spare_the_collector
from tests.bench.process_cost import peak_bytes, resident_bytes

_ROUNDS = 3
_MIB = 1 << 20


async def _replay(url: str, workspace_id: str, head: int) -> tuple[float, int]:
    """Seconds from the first question to the totals of all months, and the number of events that made them."""
    connection = await connect(url, "bench")
    began, totals, events = time.perf_counter(), dict[str, int](), 0
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            async for jobs in replay_jobs(connection, workspace_id, head):
                for job in jobs:
                    events += job.events
                    for attempt in job.attempts.values():
                        for period, ms_micros in settled_by_period(attempt).items():
                            totals[period] = totals.get(period, 0) + ms_micros
    finally:
        await connection.close()
    assert totals, "nothing was charged"
    return time.perf_counter() - began, events


def main(url: str, workspace_id: str, head: str) -> None:
    # As every service process does at its start.
    spare_the_collector()
    start_bytes = resident_bytes(os.getpid())
    took_s, events = min(uvloop.run(_replay(url, workspace_id, int(head))) for _ in range(_ROUNDS))
    peak_mib = peak_bytes(os.getpid()) / _MIB
    print(json.dumps({"s": took_s, "events": events, "start_mib": start_bytes / _MIB, "peak_mib": peak_mib}))


if __name__ == "__main__":
    main(*sys.argv[1:])
