"""What runs in the background changes no answer: small chunks are merged, old figures go, and a crash loses nothing."""

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from protos.events.v1.job_pb2 import JobAssigned, JobFinished
from protos.metrics.v1 import evaluation_pb2, ingest_pb2, metrics_pb2
from services.eventlog.leadership import lead
from services.metrics.upkeep import merge_next, remove_old
from services.postgres import connect
from tests.support.eventually import eventually
from tests.support.metrics_service import (
    ATTEMPT,
    JOB,
    RUNNER,
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
from tests.support.platform import DatabaseUrls

RECORDS = 1000


@pytest.fixture
async def log(database: DatabaseUrls) -> AsyncIterator[Log]:
    async with log_of_one_job(database) as log:
        yield log


@pytest.fixture
async def metrics(database: DatabaseUrls, log: Log) -> AsyncIterator[Metrics]:
    """Its background work waits: the test leads, and does it when it wants to."""
    held, leading = asyncio.Event(), asyncio.Event()

    async def hold(_connection: Any) -> None:
        leading.set()
        await held.wait()

    holding = asyncio.create_task(lead(database.metrics, "metrics.upkeep", hold))
    await leading.wait()
    async with serving(database) as metrics:
        yield metrics
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


@pytest.fixture
async def connection(database: DatabaseUrls) -> AsyncIterator[Any]:
    connection = await connect(database.metrics, "test")
    yield connection
    await connection.close()


def training(seed: int = 1) -> list[ingest_pb2.ReportRequest]:
    """Points in small batches, late ones and a NaN among them, and lines."""
    chosen = random.Random(seed)
    steps = list(range(1, RECORDS + 1))
    steps[100], steps[300] = steps[300], steps[100]
    records = [
        point(step, loss=math.nan if step == 500 else 1 / step, **({"accuracy": float(step)} if step % 7 == 0 else {}))
        for step in steps
    ]
    lines = [line(f"line {number}") for number in range(1, RECORDS + 1)]
    requests, at = [], 0
    while at < RECORDS:
        size = chosen.randint(1, 12)
        requests.append(batch(at + 1, records[at : at + size]))
        requests.append(batch(at + 1, lines[at : at + size], "log"))
        at += size
    return requests


async def answers(metrics: Metrics) -> tuple[Any, ...]:
    """What readers are told, in a form that compares (NaN is not itself)."""
    credentials = metadata(TOKEN)
    reduced = await metrics.points(max_points=50)
    listed = await metrics.metrics.ListSeries(metrics_pb2.ListSeriesRequest(job_id=JOB), metadata=credentials)
    read = metrics.metrics.ReadPoints(metrics_pb2.ReadPointsRequest(job_id=JOB), metadata=credentials, timeout=20)
    every: dict[str, list[tuple[int, float]]] = {}
    async for one in read:
        assert one.attempt_id == ATTEMPT
        every.setdefault(one.series.name, []).extend(zip(one.series.steps, one.series.values, strict=True))
    return (
        repr(await metrics.points()),
        repr(reduced),
        listed.SerializeToString(deterministic=True),
        repr(every),
        [(found.line, found.text) for found in await metrics.lines()],
        [found.text for found in await metrics.lines(tail=3)],
    )


async def counts(connection: Any) -> tuple[int, int]:
    chunks: int = await connection.fetchval("select count(*) from metrics.chunks")
    lines: int = await connection.fetchval("select count(*) from metrics.log_chunks")
    return chunks, lines


async def test_merging_changes_no_answer_and_leaves_few_chunks(metrics: Metrics, connection: Any) -> None:
    await metrics.report(*training())
    before, many = await answers(metrics), await counts(connection)
    while await merge_next(connection):
        pass
    assert await answers(metrics) == before
    few = await counts(connection)
    assert many[0] > 200
    # Two series in seven whole stretches, and what follows them in small batches.
    assert few[0] < 14 + 60
    assert few[1] < 8 + 50
    # A repeat is still known as one.
    assert {answer.acknowledged_sequence for answer in await metrics.report(*training())} == {RECORDS}
    assert await answers(metrics) == before


class _Dying:
    """A connection that is lost before the statement number `last` + 1."""

    def __init__(self, connection: Any, last: int) -> None:
        self._connection, self._left = connection, last

    def transaction(self) -> Any:
        return self._connection.transaction()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)

        async def counted(*arguments: Any, **named: Any) -> Any:
            if not self._left:
                self._connection.terminate()
            self._left -= 1
            return await method(*arguments, **named)

        return counted


async def test_a_merge_that_dies_at_any_statement_loses_and_doubles_nothing(
    metrics: Metrics, database: DatabaseUrls
) -> None:
    await metrics.report(*training()[:120])
    before = await answers(metrics)
    for last in itertools.count():
        dying = await connect(database.metrics, "dying")
        try:
            await merge_next(_Dying(dying, last))  # type: ignore[arg-type]
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            assert await answers(metrics) == before, f"lost at statement {last}"
        else:
            break
        finally:
            dying.terminate()
    assert last >= 8
    assert await answers(metrics) == before


async def test_a_watch_misses_and_repeats_nothing_while_chunks_are_merged(metrics: Metrics, connection: Any) -> None:
    call = metrics.metrics.WatchMetrics(
        metrics_pb2.WatchMetricsRequest(job_id=JOB, names=["accuracy"], max_points=100_000),
        metadata=metadata(TOKEN),
        timeout=60,
    )
    await call.read()
    seen: list[int] = []

    async def merging() -> None:
        while True:
            await merge_next(connection)
            await asyncio.sleep(0)

    task = asyncio.create_task(merging())
    shipping = asyncio.create_task(metrics.report(*training()))
    while len(seen) < RECORDS // 7:
        answer = await call.read()
        assert isinstance(answer, metrics_pb2.WatchMetricsResponse)
        seen += [step for series in answer.series for step in series.steps]
    await shipping
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    call.cancel()
    assert sorted(seen) == list(range(7, RECORDS + 1, 7))


async def test_the_service_merges_by_itself(database: DatabaseUrls, log: Log, connection: Any) -> None:
    async with serving(database) as metrics:
        await metrics.report(*training())
        await eventually(lambda: _nothing_waits(connection), 20, "every stretch merged")
        assert (await counts(connection))[0] < 100


async def _nothing_waits(connection: Any) -> bool:
    waiting: int = await connection.fetchval("select count(*) from metrics.merges")
    return not waiting


async def _known_over(connection: Any) -> bool:
    over: bool = await connection.fetchval("select over_at is not null from metrics.jobs where job_id = $1", JOB)
    return over


async def test_points_and_lines_go_after_their_time_and_evaluations_stay(
    metrics: Metrics, log: Log, connection: Any
) -> None:
    evaluation = ingest_pb2.Record(evaluation=ingest_pb2.Evaluation(step=9, metrics={"accuracy": 0.5}))
    await metrics.report(batch(1, [point(1, loss=1), evaluation]), batch(1, [line("hello")], "log"))
    assert await remove_old(connection, 1 << 45) == 0, "the job goes on"
    await log.append(WORKSPACE, "job", JOB, JobFinished(attempt_id=ATTEMPT))
    await eventually(lambda: _known_over(connection), what="the job's end")
    assert await remove_old(connection, 0) == 0, "it is not over for so long"
    assert await remove_old(connection, 1 << 45) == 2
    assert await metrics.points() == {}
    assert await metrics.lines() == []
    listed = await metrics.metrics.ListSeries(metrics_pb2.ListSeriesRequest(job_id=JOB), metadata=metadata(TOKEN))
    assert not listed.series
    assert listed.removed_at_ms > 0
    request = evaluation_pb2.ListEvaluationsRequest(job_id=JOB)
    assert len((await metrics.evaluations.ListEvaluations(request, metadata=metadata(TOKEN))).evaluations) == 1
    # Repeats stay repeats; what a box still holds is taken, and goes in its turn.
    answer, late = await metrics.report(batch(1, [point(1, loss=1)]), batch(3, [point(3, loss=3)]))
    assert (answer.acknowledged_sequence, late.acknowledged_sequence) == (2, 3)
    assert await metrics.points() == {"loss": [(3, 3)]}
    assert await remove_old(connection, 1 << 45) == 1
    assert await metrics.points() == {}


async def test_a_job_that_was_assigned_again_is_not_over(metrics: Metrics, log: Log, connection: Any) -> None:
    await metrics.report(batch(1, [point(1, loss=1)]))
    await log.append(WORKSPACE, "job", JOB, JobFinished(attempt_id=ATTEMPT))
    await eventually(lambda: _known_over(connection), what="the job's end")
    await log.append(WORKSPACE, "job", JOB, JobAssigned(attempt_id="at_two", runner_id=RUNNER))
    await metrics.report(batch(1, [point(2, loss=2)], attempt_id="at_two"))
    assert await remove_old(connection, 1 << 45) == 0


async def test_a_flood_is_refused_and_told_and_stalls_nothing(database: DatabaseUrls, log: Log) -> None:
    flood = [point(step, loss=1.0, accuracy=2.0) for step in range(1, 101)]
    async with serving(database, max_points_per_s=10, max_series_per_job=2) as metrics:
        answers = await metrics.report(*(batch(1 + at, flood[at : at + 9]) for at in range(0, 100, 9)))
        assert answers[-1].acknowledged_sequence == 100
        assert any("points per second: this is more than the limit of 10" in answer.refused for answer in answers)
        await metrics.report(batch(101, [point(5101, loss=1.0), point(5102, other=1.0)]))
    # The next replica counts on from there.
    async with serving(database, max_points_per_s=10) as metrics:
        assert [step for step, _ in (await metrics.points())["loss"]] == [*range(1, 51), 5101]
        listed = await metrics.metrics.ListSeries(metrics_pb2.ListSeriesRequest(job_id=JOB), metadata=metadata(TOKEN))
        told = {one.reason.partition(":")[0]: one.count for one in listed.refused}
        assert told == {"points per second": 100, "series per job": 1}
