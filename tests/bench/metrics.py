"""What the metrics service ingests durably over gRPC, how fast it reduces a long series, and how soon it tells."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import grpc
import uvloop

from deploy.local.ports import free_port
from protos.metrics.v1 import ingest_pb2, metrics_pb2
from protos.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from services.eventlog.leadership import lead
from services.postgres import Connection, connect
from tests.bench.metrics_peers import measure_peers
from tests.bench.metrics_watch import measure_watch
from tests.bench.process_cost import cpu_s
from tests.bench.servers import fresh_log
from tests.support.eventually import eventually
from tests.support.metrics_service import KEY, TOKEN, log_of, metadata, metrics_process
from tests.support.platform import DatabaseUrls

# Batches of 250 steps with 10 series each: ten chunks of 250 points.
_STEPS, _SERIES = 250, 10
_STREAMS = 8
_BATCHES = 200
_LONG_SERIES = 1_000_000
# A training sends what it has each 50 ms: a long series comes in small pieces.
_SMALL = 25
_IN_FLIGHT = 16
_RAW_POINTS = 500_000
_RAW_BATCH = 10_000
_QUERIES = 9


def run(report: Callable[[str, float], None], folder: Path) -> None:
    """metrics_points_per_s, metrics_query_ms and watch_p99_ms. The service is a process of its own."""
    with fresh_log(folder) as database:
        uvloop.run(_measure(report, database, free_port(), folder))
    measure_peers(report, folder)


async def _measure(report: Callable[[str, float], None], database: DatabaseUrls, port: int, folder: Path) -> None:
    async with log_of(database) as log:
        await log.people()
        for number in range(_STREAMS + 2):
            await log.job(f"jb_{number}", f"at_{number}")
        await _measure_copy(report, database)
        async with (
            metrics_process(database, port) as process,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            async with asyncio.timeout(30):
                await channel.channel_ready()
            await eventually(lambda: _attempts(database), 30)
            before_cpu_s = cpu_s(process.pid)
            points = await _measure_ingest(report, channel)
            report("metrics_ingest_cpu_ns_per_point", (cpu_s(process.pid) - before_cpu_s) * 1e9 / points)
            await _measure_query(report, channel, database)
            await measure_watch(report, channel, port, folder, f"jb_{_STREAMS + 1}", f"at_{_STREAMS + 1}")


async def _measure_copy(report: Callable[[str, float], None], database: DatabaseUrls) -> None:
    """The limit: a row a point by COPY, durable, with an index, and nothing else around it."""
    connection = await connect(database.metrics, "bench")
    try:
        await connection.execute(
            "create table metrics.raw_points (series_id bigint, step bigint, value float8, at_ms bigint)"
        )
        await connection.execute("create index on metrics.raw_points (series_id, step)")
        rows = [(step % _SERIES, step, step / 7, step) for step in range(_RAW_POINTS)]
        began = time.perf_counter()
        for at in range(0, _RAW_POINTS, _RAW_BATCH):
            await connection.copy_records_to_table(
                "raw_points", schema_name="metrics", records=rows[at : at + _RAW_BATCH]
            )
        report("raw_copy_points_per_s", _RAW_POINTS / (time.perf_counter() - began))
        times = []
        for _ in range(_QUERIES):
            began = time.perf_counter()
            await connection.fetchval("select sum(value) from metrics.raw_points where series_id = 1")
            times.append((time.perf_counter() - began) * 1000 * _LONG_SERIES * _SERIES / _RAW_POINTS)
        report("raw_sum_of_rows_ms", median(times))
        await connection.execute("drop table metrics.raw_points")
    finally:
        await connection.close()


async def _attempts(database: DatabaseUrls) -> bool:
    connection = await connect(database.metrics, "bench")
    try:
        known: int = await connection.fetchval("select count(*) from metrics.attempts")
    finally:
        await connection.close()
    return known > _STREAMS + 1


async def _measure_ingest(report: Callable[[str, float], None], channel: grpc.aio.Channel) -> int:
    requests = [[_batch(stream, number) for number in range(_BATCHES)] for stream in range(_STREAMS)]
    points = _STREAMS * _BATCHES * _STEPS * _SERIES
    began = time.perf_counter()
    await asyncio.gather(*(_ship(channel, stream, _STEPS) for stream in requests))
    report("metrics_points_per_s", points / (time.perf_counter() - began))
    return points


async def _measure_query(
    report: Callable[[str, float], None], channel: grpc.aio.Channel, database: DatabaseUrls
) -> None:
    """A series of a million points that came in forty thousand pieces: as they came, and once they are merged."""
    job_id, attempt_id = f"jb_{_STREAMS}", f"at_{_STREAMS}"
    await eventually(lambda: _merged(database), 300)
    async with _no_upkeep(database):
        await _ship(channel, _long_series(job_id, attempt_id), _SMALL)
        report("metrics_query_unmerged_ms", await _query_ms(channel, job_id))
    began = time.perf_counter()
    await eventually(lambda: _merged(database), 120)
    report("metrics_merge_points_per_s", _LONG_SERIES / (time.perf_counter() - began))
    report("metrics_query_ms", await _query_ms(channel, job_id))


@asynccontextmanager
async def _no_upkeep(database: DatabaseUrls) -> AsyncIterator[None]:
    """Whoever leads merges; until the end of the block it is somebody who does not."""
    leading = asyncio.Event()

    async def hold(_connection: Connection) -> None:
        leading.set()
        await asyncio.Event().wait()

    # The service gives the leadership up when its connection is ended.
    administrator = await connect(database.admin, "bench")
    holding = asyncio.create_task(lead(database.metrics, "metrics.upkeep", hold))
    try:
        while not leading.is_set():
            await administrator.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'metrics.upkeep' "
                "and pid in (select pid from pg_locks where locktype = 'advisory' and granted)"
            )
            await asyncio.sleep(0.1)
        yield
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await administrator.close()


async def _merged(database: DatabaseUrls) -> bool:
    connection = await connect(database.metrics, "bench")
    try:
        waiting: int = await connection.fetchval("select count(*) from metrics.merges")
    finally:
        await connection.close()
    return not waiting


async def _query_ms(channel: grpc.aio.Channel, job_id: str) -> float:
    stub = MetricsServiceStub(channel)
    request = metrics_pb2.QueryMetricsRequest(job_id=job_id, max_points=1000)
    times = []
    for _ in range(_QUERIES):
        began = time.perf_counter()
        await stub.QueryMetrics(request, metadata=metadata(TOKEN), timeout=30)
        times.append((time.perf_counter() - began) * 1000)
    return median(times)


def _long_series(job_id: str, attempt_id: str) -> list[bytes]:
    # A step each 10 ms.
    records = [
        ingest_pb2.Record(at_ms=10 * step, points=ingest_pb2.Points(step=step, values={"loss": math.sin(step)}))
        for step in range(_LONG_SERIES)
    ]
    return [
        ingest_pb2.ReportRequest(
            attempt_id=attempt_id,
            job_id=job_id,
            spool="trainer",
            first_sequence=at + 1,
            records=records[at : at + _SMALL],
        ).SerializeToString()
        for at in range(0, _LONG_SERIES, _SMALL)
    ]


def _batch(stream: int, number: int) -> bytes:
    first = number * _STEPS
    records = [
        ingest_pb2.Record(
            at_ms=1_763_800_000_000 + 10 * step,
            points=ingest_pb2.Points(
                step=step, values={f"train/series_{index}": step / 7 + index for index in range(_SERIES)}
            ),
        )
        for step in range(first, first + _STEPS)
    ]
    return ingest_pb2.ReportRequest(
        attempt_id=f"at_{stream}",
        job_id=f"jb_{stream}",
        spool="trainer",
        first_sequence=first + 1,
        records=records,
    ).SerializeToString()


async def _ship(channel: grpc.aio.Channel, requests: list[bytes], records: int) -> None:
    """Serialised batches of so many records on one stream, each acknowledged."""
    call = channel.stream_stream(
        "/tether.metrics.v1.IngestService/Report",
        request_serializer=bytes,
        response_deserializer=ingest_pb2.ReportResponse.FromString,
    )
    room = asyncio.Semaphore(_IN_FLIGHT)

    async def sending() -> AsyncIterator[bytes]:
        for request in requests:
            await room.acquire()
            yield request

    last = 0
    async for answer in call(sending(), metadata=metadata(KEY), timeout=300):
        room.release()
        last = answer.acknowledged_sequence
    assert last == len(requests) * records, f"acknowledged up to {last}"
