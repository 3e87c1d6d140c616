"""The minutes folded again from the whole log: by itself, and as VerifyUsage does it and compares."""

import asyncio
import json
import sys
import time
from collections.abc import Callable

from protos.quota.v1 import quota_pb2 as pb
from protos.quota.v1.quota_pb2_grpc import QuotaServiceStub
from services.postgres import connect
from services.quota.domain.ledger import ATTEMPT_EVENTS
from tests.bench.process_cost import peak_bytes
from tests.bench.service import Service
from tests.support.bulk_log import TOKEN, WORKSPACE
from tests.support.platform import DatabaseUrls
from tests.support.servers import bearer

_ROUNDS = 3
_ROWS_AT_ONCE = 5000
_TIMEOUT_S = 600
_MIB = 1 << 20

Report = Callable[[str, float], None]


async def measure_replay(report: Report, database: DatabaseUrls, head: int) -> None:
    """replay_events_per_s: events of the log, most of which the minutes do not need and PostgreSQL passes over.

    replay_folded_events_per_s counts only those that were parsed and folded. Beside it raw_replay_events_per_s: the
    same rows fetched in the order of the log, and nothing made of them.
    """
    command = [sys.executable, "-m", "tests.bench.replay_process", database.quota, WORKSPACE, str(head)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(_TIMEOUT_S):
        output, _ = await process.communicate()
    found = json.loads(output)
    report("replay_events_per_s", head / found["s"])
    report("replay_folded_events_per_s", found["events"] / found["s"])
    report("replay_start_mib", found["start_mib"])
    report("replay_peak_mib", found["peak_mib"])
    report("raw_replay_events_per_s", head / min([await _select_s(database.quota, head) for _ in range(_ROUNDS)]))


async def _select_s(url: str, head: int) -> float:
    connection = await connect(url, "bench")
    began = time.perf_counter()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            cursor = await connection.cursor(
                "select stream_id, position, type, payload from eventlog.events where stream_kind = 'job' "
                "and workspace_id = $1 and type = any($2) and position <= $3 order by position",
                WORKSPACE,
                list(ATTEMPT_EVENTS),
                head,
            )
            while await cursor.fetch(_ROWS_AT_ONCE):
                pass
    finally:
        await connection.close()
    return time.perf_counter() - began


async def measure_verify(report: Report, service: Service) -> None:
    """verify_events_per_s: VerifyUsage, which replays, and compares with what the read model says of each job."""
    stub, best_s, position = QuotaServiceStub(service.channel), float("inf"), 0
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        answer = await stub.VerifyUsage(pb.VerifyUsageRequest(), metadata=bearer(TOKEN), timeout=_TIMEOUT_S)
        best_s, position = min(best_s, time.perf_counter() - began), answer.position
        assert answer.equal, answer.differences
    report("verify_events_per_s", position / best_s)
    report("verify_peak_mib", peak_bytes(service.pid) / _MIB)
