"""A job in several attempts is one training to those who read: the later attempt counts from its first step on."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from protos.metrics.v1 import evaluation_pb2, ingest_pb2, metrics_pb2
from tests.support.metrics_service import JOB, TOKEN, Metrics, batch, log_of, metadata, point, serving
from tests.support.platform import DatabaseUrls

FIRST, SECOND, THIRD = "at_one", "at_two", "at_three"


@pytest.fixture
async def metrics(database: DatabaseUrls) -> AsyncIterator[Metrics]:
    async with log_of(database) as log:
        await log.people()
        await log.job(JOB, FIRST, SECOND, THIRD)
        async with serving(database) as metrics:
            yield metrics


def losses(first: int, last: int, attempt: int) -> list[ingest_pb2.Record]:
    return [point(step, loss=attempt * 1000 + step) for step in range(first, last + 1)]


def evaluation(step: int, attempt: int) -> ingest_pb2.Record:
    return ingest_pb2.Record(at_ms=1, evaluation=ingest_pb2.Evaluation(step=step, metrics={"attempt": attempt}))


async def watched(call: grpc.aio.UnaryStreamCall[Any, Any]) -> list[metrics_pb2.Series]:
    """The next response of a watch."""
    answer = await call.read()
    assert isinstance(answer, metrics_pb2.WatchMetricsResponse)
    return list(answer.series)


async def test_each_step_is_told_once_as_the_last_attempt_that_made_it_has_measured_it(metrics: Metrics) -> None:
    await metrics.report(batch(1, losses(1, 35, 1), attempt_id=FIRST))
    await metrics.report(batch(1, losses(21, 30, 2), attempt_id=SECOND))
    await metrics.report(batch(1, losses(26, 40, 3), attempt_id=THIRD))
    expected = [(n, 1000 + n) for n in range(1, 21)]
    expected += [(n, 2000 + n) for n in range(21, 26)] + [(n, 3000 + n) for n in range(26, 41)]
    assert (await metrics.points())["loss"] == expected
    request = metrics_pb2.ListSeriesRequest(job_id=JOB)
    (listed,) = (await metrics.metrics.ListSeries(request, metadata=metadata(TOKEN), timeout=10)).series
    assert (listed.first_step, listed.last_step, listed.last_value) == (1, 40, 3040)
    part = metrics_pb2.QueryMetricsRequest(job_id=JOB, from_step=24, to_step=27)
    (found,) = (await metrics.metrics.QueryMetrics(part, metadata=metadata(TOKEN), timeout=10)).series
    assert list(found.values) == [2024, 2025, 3026, 3027]


async def test_samples_of_the_box_follow_one_another(metrics: Metrics) -> None:
    for number, attempt_id in enumerate((FIRST, SECOND), 1):
        await metrics.report(batch(1, losses(0, 2, number), spool="system", attempt_id=attempt_id))
    assert [step for step, _ in (await metrics.points())["loss"]] == [0, 1, 2, 0, 1, 2]


async def test_what_arrives_late_of_an_attempt_that_was_repeated_is_not_told_to_those_who_watch(
    metrics: Metrics,
) -> None:
    system = batch(1, [point(0, load=1)], spool="system", attempt_id=FIRST)
    await metrics.report(batch(1, losses(1, 10, 1), attempt_id=FIRST), system)
    await metrics.report(batch(1, losses(9, 12, 2), attempt_id=SECOND))
    call = metrics.metrics.WatchMetrics(
        metrics_pb2.WatchMetricsRequest(job_id=JOB, names=["loss"]), metadata=metadata(TOKEN), timeout=60
    )
    told = [tuple(one.steps) for one in await watched(call)]
    assert told == [tuple(range(1, 13))]
    await metrics.report(batch(11, losses(11, 14, 1), attempt_id=FIRST))
    await metrics.report(batch(5, losses(13, 14, 2), attempt_id=SECOND))
    seen: list[float] = []
    while len(seen) < 2:
        seen += [value for one in await watched(call) for value in one.values]
    call.cancel()
    assert seen == [2013, 2014]


async def test_evaluations_that_were_made_again_count_once(metrics: Metrics) -> None:
    first = [evaluation(step, 1) for step in (10, 20, 30)]
    await metrics.report(batch(1, first, attempt_id=FIRST))
    await metrics.report(batch(1, [evaluation(20, 2)], attempt_id=SECOND))
    request = evaluation_pb2.ListEvaluationsRequest(job_id=JOB)
    found = (await metrics.evaluations.ListEvaluations(request, metadata=metadata(TOKEN), timeout=10)).evaluations
    assert [(one.step, one.metrics["attempt"]) for one in found] == [(10, 1), (20, 2)]
