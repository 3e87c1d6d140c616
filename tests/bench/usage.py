"""How long GetUsage takes with a million jobs in the read model, beside a bare call and the bare row."""

import time
from collections.abc import Awaitable, Callable

from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.common.v1.moment_pb2 import Moment
from protos.quota.v1 import quota_pb2 as pb
from protos.quota.v1.quota_pb2_grpc import QuotaServiceStub
from services.postgres import Pool
from tests.bench.service import Service
from tests.support.bulk_log import TOKEN, WORKSPACE
from tests.support.servers import bearer

_WARM_UP, _CALLS = 50, 1000

Report = Callable[[str, float], None]


async def measure_usage(report: Report, service: Service, pool: Pool) -> None:
    """usage_ms and usage_p99_ms: the current month, with what runs in it, one call after another."""
    stub, health = QuotaServiceStub(service.channel), health_pb2_grpc.HealthStub(service.channel)
    metadata = bearer(TOKEN)

    async def usage() -> None:
        await stub.GetUsage(pb.GetUsageRequest(), metadata=metadata, timeout=30)

    async def bare_call() -> None:
        await health.Check(health_pb2.HealthCheckRequest(), timeout=30)

    async def bare_row() -> None:
        await pool.fetch("select * from quota.usage where workspace_id = $1 limit 1", WORKSPACE)

    median_ms, p99_ms = await _percentiles(usage, _CALLS)
    report("usage_ms", median_ms)
    report("usage_p99_ms", p99_ms)
    report("raw_usage_call_ms", (await _percentiles(bare_call, _CALLS))[0])
    report("raw_usage_row_ms", (await _percentiles(bare_row, _CALLS))[0])


async def measure_past_usage(report: Report, service: Service, head: int) -> None:
    """usage_as_of_ms: as it was known in the middle of the log; usage_by_…_ms: that month in rows."""
    stub, metadata = QuotaServiceStub(service.channel), bearer(TOKEN)
    middle = pb.GetUsageRequest(as_of=Moment(position=head // 2))

    async def as_of() -> None:
        assert (await stub.GetUsage(middle, metadata=metadata, timeout=60)).used_milliminutes

    report("usage_as_of_ms", (await _percentiles(as_of, _CALLS // 10))[0])
    period = (await stub.GetUsage(middle, metadata=metadata, timeout=60)).period
    for name, grouping in (("day", pb.USAGE_GROUPING_DAY), ("person", pb.USAGE_GROUPING_PERSON)):
        request = pb.GetUsageRequest(period=period, group_by=grouping)

        async def by_group(request: pb.GetUsageRequest = request) -> None:
            assert (await stub.GetUsage(request, metadata=metadata, timeout=60)).rows

        report(f"usage_by_{name}_ms", (await _percentiles(by_group, 3, warm_up=1))[0])


async def _percentiles(call: Callable[[], Awaitable[None]], calls: int, warm_up: int = _WARM_UP) -> tuple[float, float]:
    """Milliseconds: the median, and what 99 of 100 calls stay within."""
    took_ms = []
    for _ in range(warm_up + calls):
        began = time.perf_counter()
        await call()
        took_ms.append((time.perf_counter() - began) * 1000)
    took_ms = sorted(took_ms[warm_up:])
    return took_ms[calls // 2], took_ms[calls * 99 // 100]
