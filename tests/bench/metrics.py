"""What the metrics service ingests durably over gRPC, and how fast it reduces a long series."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import uvloop

from deploy.local.ports import free_port
from protos.metrics.v1 import ingest_pb2, metrics_pb2
from protos.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from services.postgres import connect
from tests.bench.servers import fresh_log
from tests.support.eventually import eventually
from tests.support.metrics_service import KEY, TOKEN, log_of, metadata, metrics_process
from tests.support.platform import DatabaseUrls

# Batches of 250 steps with 10 series each: ten chunks of 250 points.
_STEPS, _SERIES = 250, 10
_STREAMS = 8
_BATCHES = 200
_LONG_SERIES = 1_000_000
_IN_FLIGHT = 16


def run(report: Callable[[str, float], None], folder: Path) -> None:
    """metrics_points_per_s and metrics_query_ms. The service is a process of its own."""
    with fresh_log(folder) as database:
        uvloop.run(_measure(report, database, free_port()))


async def _measure(report: Callable[[str, float], None], database: DatabaseUrls, port: int) -> None:
    async with log_of(database) as log:
        await log.people()
        for number in range(_STREAMS + 1):
            await log.job(f"jb_{number}", f"at_{number}")
        async with (
            metrics_process(database, port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            async with asyncio.timeout(30):
                await channel.channel_ready()
            await eventually(lambda: _attempts(database), 30)
            await _measure_ingest(report, channel)
            await _measure_query(report, channel)


async def _attempts(database: DatabaseUrls) -> bool:
    connection = await connect(database.metrics, "bench")
    try:
        known: int = await connection.fetchval("select count(*) from metrics.attempts")
    finally:
        await connection.close()
    return known > _STREAMS


async def _measure_ingest(report: Callable[[str, float], None], channel: grpc.aio.Channel) -> None:
    requests = [[_batch(stream, number) for number in range(_BATCHES)] for stream in range(_STREAMS)]
    began = time.perf_counter()
    await asyncio.gather(*(_ship(channel, stream) for stream in requests))
    report("metrics_points_per_s", _STREAMS * _BATCHES * _STEPS * _SERIES / (time.perf_counter() - began))


async def _measure_query(report: Callable[[str, float], None], channel: grpc.aio.Channel) -> None:
    records = [
        ingest_pb2.Record(at_ms=step, points=ingest_pb2.Points(step=step, values={"loss": math.sin(step)}))
        for step in range(_LONG_SERIES)
    ]
    job = f"_{_STREAMS}"
    requests = [
        ingest_pb2.ReportRequest(
            attempt_id=f"at{job}",
            job_id=f"jb{job}",
            spool="trainer",
            first_sequence=at + 1,
            records=records[at : at + _STEPS],
        ).SerializeToString()
        for at in range(0, _LONG_SERIES, _STEPS)
    ]
    await _ship(channel, requests)
    stub = MetricsServiceStub(channel)
    request = metrics_pb2.QueryMetricsRequest(job_id=f"jb{job}", max_points=1000)
    times = []
    for _ in range(9):
        began = time.perf_counter()
        await stub.QueryMetrics(request, metadata=metadata(TOKEN), timeout=30)
        times.append((time.perf_counter() - began) * 1000)
    report("metrics_query_ms", sorted(times)[len(times) // 2])


def _batch(stream: int, number: int) -> bytes:
    first = number * _STEPS
    records = [
        ingest_pb2.Record(
            at_ms=1_763_800_000_000 + step,
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


async def _ship(channel: grpc.aio.Channel, requests: list[bytes]) -> None:
    """Serialised batches on one stream, each acknowledged."""
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
    assert last == len(requests) * _STEPS, f"acknowledged up to {last}"
