"""Searching logs: what is found is what a person sees, numbered over all attempts, and live."""

from collections.abc import AsyncIterator

import pytest

from protos.metrics.v1 import metrics_pb2
from tests.support.metrics_service import (
    JOB,
    TOKEN,
    Log,
    Metrics,
    batch,
    line,
    log_of_one_job,
    metadata,
    serving,
)
from tests.support.platform import DatabaseUrls


@pytest.fixture
async def log(database: DatabaseUrls) -> AsyncIterator[Log]:
    async with log_of_one_job(database) as log:
        yield log


@pytest.fixture
async def metrics(database: DatabaseUrls, log: Log) -> AsyncIterator[Metrics]:
    async with serving(database) as metrics:
        yield metrics


async def found(metrics: Metrics, **asked: int | str) -> list[tuple[int, str]]:
    request = metrics_pb2.ReadLogsRequest(job_id=JOB, **asked)  # type: ignore[arg-type]
    call = metrics.metrics.ReadLogs(request, metadata=metadata(TOKEN), timeout=20)
    return [(line.line, line.text) async for response in call for line in response.lines]


async def test_a_search_counts_what_it_finds_over_all_attempts(metrics: Metrics, log: Log) -> None:
    texts = [f"step {number} \x1b[3{number % 8}mlo\x1b[0mss" if number % 100 == 0 else "." for number in range(1, 3001)]
    for first in range(0, 3000, 250):
        await metrics.report(batch(first + 1, [line(text) for text in texts[first : first + 250]], "log"))
    await log.attempt(JOB, "at_two")
    await metrics.report(batch(1, [line("again"), line("LOSS again")], "log", "at_two"))
    expected = [(number, texts[number - 1]) for number in range(100, 3001, 100)] + [(3002, "LOSS again")]
    assert await found(metrics, search="Loss") == expected
    assert await found(metrics, search="loss", tail=3) == expected[-3:]
    assert await found(metrics, search="loss", tail=100) == expected
    assert await found(metrics, search="loss", max_lines=2) == expected[:2]
    assert await found(metrics, search="loss", from_line=250, max_lines=1) == expected[2:3]
    assert await found(metrics, search="[3") == []
    assert await found(metrics, tail=1) == [(3002, "LOSS again")]
    assert await found(metrics, from_line=3001) == [(3001, "again"), (3002, "LOSS again")]
    assert await found(metrics, from_line=2990, max_lines=2) == [(2990, "."), (2991, ".")]


async def test_a_watch_with_a_search_begins_with_the_last_matches_and_tells_each_new_one(metrics: Metrics) -> None:
    await metrics.report(batch(1, [line(f"loss {number}") for number in range(1, 20)] + [line("end")], "log"))
    request = metrics_pb2.WatchLogsRequest(job_id=JOB, tail=2, search="LOSS")
    call = metrics.metrics.WatchLogs(request, metadata=metadata(TOKEN), timeout=30)
    seen: list[tuple[int, str]] = []
    for expected in (2, 3):
        while len(seen) < expected:
            answer = await call.read()
            assert isinstance(answer, metrics_pb2.WatchLogsResponse)
            seen += [(one.line, one.text) for one in answer.lines]
        await metrics.report(batch(21, [line("nothing"), line("\x1b[1mLoss\x1b[0m 20")], "log"))
    call.cancel()
    assert seen == [(18, "loss 18"), (19, "loss 19"), (22, "\x1b[1mLoss\x1b[0m 20")]


async def test_a_watch_from_a_line_on_tells_nothing_before_it_even_if_that_comes_later(
    metrics: Metrics, log: Log
) -> None:
    await metrics.report(batch(1, [line("one"), line("two")], "log"))
    call = metrics.metrics.WatchLogs(
        metrics_pb2.WatchLogsRequest(job_id=JOB, from_line=4), metadata=metadata(TOKEN), timeout=30
    )
    assert await call.read() == metrics_pb2.WatchLogsResponse()
    await metrics.report(batch(3, [line("three")], "log"))
    await log.attempt(JOB, "at_two")
    await metrics.report(batch(1, [line("four"), line("five")], "log", "at_two"))
    answer = await call.read()
    assert isinstance(answer, metrics_pb2.WatchLogsResponse)
    call.cancel()
    assert [(one.line, one.text) for one in answer.lines] == [(4, "four"), (5, "five")]
