"""Reading: reduced without losing a spike, live, by workspace, and from a read model that can be rebuilt."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import asyncpg
import grpc
import pytest

from protos.events.v1.workspace_pb2 import TokenRevoked
from protos.metrics.v1 import evaluation_pb2, ingest_pb2, metrics_pb2
from protos.training.v1.training_pb2 import ConfusionMatrix
from services.eventlog.projection import forget_checkpoint
from tests.support.eventually import eventually
from tests.support.metrics_service import (
    JOB,
    OTHER_TOKEN,
    TOKEN,
    WORKSPACE,
    Log,
    Metrics,
    batch,
    line,
    log_of_one_job,
    metadata,
    point,
    serving,
)
from tests.support.platform import DatabaseUrls, SharedNats


@pytest.fixture
async def log(database: DatabaseUrls) -> AsyncIterator[Log]:
    async with log_of_one_job(database) as log:
        yield log


@pytest.fixture
async def metrics(database: DatabaseUrls, log: Log) -> AsyncIterator[Metrics]:
    async with serving(database) as metrics:
        yield metrics


async def _series(call: grpc.aio.UnaryStreamCall[Any, Any]) -> list[metrics_pb2.Series]:
    """The next response of a watch."""
    answer = await call.read()
    assert isinstance(answer, metrics_pb2.WatchMetricsResponse)
    return list(answer.series)


async def _lines(call: grpc.aio.UnaryStreamCall[Any, Any]) -> list[metrics_pb2.StoredLogLine]:
    answer = await call.read()
    assert isinstance(answer, metrics_pb2.WatchLogsResponse)
    return list(answer.lines)


async def test_a_long_series_is_reduced_and_keeps_its_spikes(metrics: Metrics) -> None:
    values = [math.sin(step / 100) for step in range(30_000)]
    values[12_345], values[23_456], values[20_000] = 1e9, -math.inf, math.nan
    records = [point(step, loss=value) for step, value in enumerate(values)]
    await metrics.report(*(batch(1 + at, records[at : at + 250]) for at in range(0, 30_000, 250)))
    found = (await metrics.points(max_points=100))["loss"]
    assert 50 < len(found) <= 100
    assert {0, 12_345, 23_456, 20_000, 29_999} <= {step for step, _ in found}
    assert found == sorted(found, key=lambda one: one[0])
    request = metrics_pb2.QueryMetricsRequest(job_id=JOB, from_step=12_300, to_step=12_400)
    response = await metrics.metrics.QueryMetrics(request, metadata=metadata(TOKEN), timeout=10)
    assert list(response.series[0].steps) == list(range(12_300, 12_401))
    assert response.series[0].at_ms[0] == 1_012_300


async def test_late_steps_are_merged_by_step_and_of_two_attempts_the_later_one_wins_from_its_first_step_on(
    metrics: Metrics, log: Log
) -> None:
    await metrics.report(batch(1, [point(1, a=1), point(5, a=5)]), batch(3, [point(3, a=3), point(2, a=2, b=2)]))
    await log.attempt(JOB, "at_two")
    await metrics.report(batch(1, [point(3, a=33), point(9, a=99)], attempt_id="at_two"))
    assert await metrics.points() == {"a": [(1, 1), (2, 2), (3, 33), (9, 99)], "b": [(2, 2)]}
    assert await metrics.points(names=["b", "unknown"]) == {"b": [(2, 2)]}
    response = await metrics.metrics.ListSeries(
        metrics_pb2.ListSeriesRequest(job_id=JOB), metadata=metadata(TOKEN), timeout=10
    )
    assert list(response.series) == [
        metrics_pb2.SeriesInfo(name="a", points=6, first_step=1, last_step=9, last_value=99),
        metrics_pb2.SeriesInfo(name="b", points=1, first_step=2, last_step=2, last_value=2),
    ]


@pytest.mark.parametrize("away", [False, True], ids=["same replica", "another replica"])
async def test_a_watch_gets_every_new_point_within_200_ms(
    database: DatabaseUrls, log: Log, nats: SharedNats, away: bool
) -> None:
    async with serving(database, nats.url) as one, serving(database, nats.url) as other:
        watcher = other if away else one
        call = watcher.metrics.WatchMetrics(
            metrics_pb2.WatchMetricsRequest(job_id=JOB), metadata=metadata(TOKEN), timeout=60
        )
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(1):
            assert not await _series(call)
        seen: list[float] = []
        delays: list[float] = []
        for step in range(1, 31):
            await one.report(batch(step, [point(step, loss=step)]))
            stored_at = loop.time()
            while len(seen) < step:
                seen += [value for series in await _series(call) for value in series.values]
            delays.append(loop.time() - stored_at)
        call.cancel()
        assert seen == list(range(1, 31))
        assert sorted(delays)[len(delays) // 2] < 0.2


async def test_a_watch_misses_nothing_while_nats_is_away(
    database: DatabaseUrls, log: Log, own_nats: SharedNats
) -> None:
    async with serving(database, own_nats.url) as one, serving(database, own_nats.url) as other:
        call = other.metrics.WatchMetrics(
            metrics_pb2.WatchMetricsRequest(job_id=JOB), metadata=metadata(TOKEN), timeout=60
        )
        await call.read()
        seen: list[float] = []
        for step, change in enumerate((own_nats.stop, own_nats.start), 1):
            await change()
            await one.report(batch(step, [point(step, loss=step)]))
            while len(seen) < step:
                seen += [value for series in await _series(call) for value in series.values]
        call.cancel()
        assert seen == [1, 2]


async def test_a_watch_begins_with_what_is_stored_and_goes_on_without_a_hole(metrics: Metrics) -> None:
    steps = range(1, 2001)
    requests = [batch(step, [point(step, loss=step)]) for step in steps]
    shipping = asyncio.create_task(metrics.report(*requests, timeout_s=60))
    await eventually(lambda: _some(metrics))
    call = metrics.metrics.WatchMetrics(
        metrics_pb2.WatchMetricsRequest(job_id=JOB, max_points=100_000), metadata=metadata(TOKEN), timeout=60
    )
    seen: list[int] = []
    while len(seen) < len(steps):
        seen += [step for series in await _series(call) for step in series.steps]
    assert seen == list(steps)
    call.cancel()
    await shipping


async def _some(metrics: Metrics) -> bool:
    return bool(await metrics.points())


async def test_a_watch_of_lines_tells_each_once_in_order_over_all_attempts(metrics: Metrics, log: Log) -> None:
    await metrics.report(batch(1, [line(f"{number}") for number in range(1, 11)], "log"))
    request = metrics_pb2.WatchLogsRequest(job_id=JOB, tail=3)
    call = metrics.metrics.WatchLogs(request, metadata=metadata(TOKEN), timeout=30)
    seen: list[str] = []
    while len(seen) < 3:
        seen += [found.text for found in await _lines(call)]
    await log.attempt(JOB, "at_two")
    await metrics.report(batch(11, [line("11"), line("12")], "log"), batch(11, [line("11")], "log"))
    await metrics.report(batch(1, [line("2.1")], "log", "at_two"))
    await metrics.report(batch(13, [line("13")], "log"))
    while len(seen) < 7:
        seen += [found.text for found in await _lines(call)]
    call.cancel()
    assert [text for text in seen if "." not in text] == ["8", "9", "10", "11", "12", "13"]
    assert [text for text in seen if "." in text] == ["2.1"]


async def _read_on(call: grpc.aio.UnaryStreamCall[Any, Any]) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_a_watch_ends_when_its_token_is_revoked(metrics: Metrics, log: Log) -> None:
    call = metrics.metrics.WatchMetrics(
        metrics_pb2.WatchMetricsRequest(job_id=JOB), metadata=metadata(TOKEN), timeout=30
    )
    await call.read()
    await log.append(WORKSPACE, "workspace", WORKSPACE, TokenRevoked(token_id=f"of_{WORKSPACE}"))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        async with asyncio.timeout(5):
            await _read_on(call)
    assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def _refusals(metrics: Metrics, job_id: str, token: str) -> list[str]:
    """What every reading RPC says about a job that is not there."""
    stub, evaluations, credentials = metrics.metrics, metrics.evaluations, metadata(token)
    matrix = evaluation_pb2.GetConfusionMatrixRequest(job_id=job_id)
    calls: list[Awaitable[object]] = [
        stub.ListSeries(metrics_pb2.ListSeriesRequest(job_id=job_id), metadata=credentials),
        stub.QueryMetrics(metrics_pb2.QueryMetricsRequest(job_id=job_id), metadata=credentials),
        stub.WatchMetrics(metrics_pb2.WatchMetricsRequest(job_id=job_id), metadata=credentials).read(),
        stub.ReadLogs(metrics_pb2.ReadLogsRequest(job_id=job_id), metadata=credentials).read(),
        stub.WatchLogs(metrics_pb2.WatchLogsRequest(job_id=job_id), metadata=credentials).read(),
        evaluations.ListEvaluations(evaluation_pb2.ListEvaluationsRequest(job_id=job_id), metadata=credentials),
        evaluations.GetConfusionMatrix(matrix, metadata=credentials),
    ]
    told = []
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        told.append((refused.value.details() or "").replace(job_id, "<job>"))
    return told


async def test_a_job_of_another_workspace_is_told_like_one_that_does_not_exist(metrics: Metrics) -> None:
    await metrics.report(batch(1, [point(1, loss=1)]), batch(1, [line("secret")], "log"))
    assert await _refusals(metrics, JOB, OTHER_TOKEN) == await _refusals(metrics, "jb_nobody", TOKEN)


async def test_bad_arguments_are_told_by_field(metrics: Metrics) -> None:
    stub = metrics.metrics
    calls: list[Awaitable[object]] = [
        stub.QueryMetrics(metrics_pb2.QueryMetricsRequest(job_id=JOB, max_points=7), metadata=metadata(TOKEN)),
        stub.QueryMetrics(metrics_pb2.QueryMetricsRequest(job_id=JOB, max_points=100_001), metadata=metadata(TOKEN)),
        stub.QueryMetrics(
            metrics_pb2.QueryMetricsRequest(job_id=JOB, from_step=9, to_step=8), metadata=metadata(TOKEN)
        ),
        stub.ReadLogs(metrics_pb2.ReadLogsRequest(job_id=JOB, tail=-1), metadata=metadata(TOKEN)).read(),
        stub.WatchLogs(metrics_pb2.WatchLogsRequest(job_id=JOB, tail=-1), metadata=metadata(TOKEN)).read(),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_evaluations_are_listed_without_matrices_which_are_read_by_step(metrics: Metrics, log: Log) -> None:
    matrix = ConfusionMatrix(classes=["cat", "dog"], counts=[5, 1, 0, 4])
    evaluations = [
        ingest_pb2.Evaluation(step=10, epoch=1, metrics={"accuracy": 0.5}, confusion_matrix=matrix),
        ingest_pb2.Evaluation(step=20, epoch=2, metrics={"accuracy": math.inf}),
        ingest_pb2.Evaluation(step=30, confusion_matrix=ConfusionMatrix(classes=["cat"], counts=[1, 2])),
    ]
    request = batch(1, [ingest_pb2.Record(evaluation=evaluation) for evaluation in evaluations])
    first, repeat = await metrics.report(request, request)
    assert "1 classes has 1 counts, not 2" in first.refused
    assert (repeat.acknowledged_sequence, repeat.refused) == (3, "")
    stub = metrics.evaluations
    listed = await stub.ListEvaluations(
        evaluation_pb2.ListEvaluationsRequest(job_id=JOB), metadata=metadata(TOKEN), timeout=10
    )
    assert [(found.step, found.HasField("confusion_matrix")) for found in listed.evaluations] == [
        (10, False),
        (20, False),
    ]
    assert listed.evaluations[1].metrics["accuracy"] == math.inf
    for step in (0, 10):
        found = await stub.GetConfusionMatrix(
            evaluation_pb2.GetConfusionMatrixRequest(job_id=JOB, step=step), metadata=metadata(TOKEN), timeout=10
        )
        assert (found.step, found.matrix) == (10, matrix)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.GetConfusionMatrix(
            evaluation_pb2.GetConfusionMatrixRequest(job_id=JOB, step=20), metadata=metadata(TOKEN), timeout=10
        )
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_the_read_model_rebuilt_from_the_log_equals_the_old_one(database: DatabaseUrls, log: Log) -> None:
    for number in range(20):
        await log.job(f"jb_{number}", *(f"at_{number}_{attempt}" for attempt in range(number % 3)))
    connection = await asyncpg.connect(database.metrics)

    async def tables() -> list[object]:
        return [
            tuple(row)
            for table in ("jobs", "attempts")
            for row in await connection.fetch(f"select * from metrics.{table} order by 1")
        ]

    try:
        async with serving(database) as metrics:
            await metrics.report(batch(1, [point(1, loss=1)], attempt_id="at_19_0", job_id="jb_19"))
        before = await tables()
        assert len(before) == 21 + 20
        await forget_checkpoint(connection, "metrics", "attempts")
        await connection.execute("truncate metrics.jobs, metrics.attempts")
        async with serving(database) as metrics:
            assert await metrics.points("jb_19") == {"loss": [(1, 1)]}
            assert await tables() == before
    finally:
        await connection.close()
