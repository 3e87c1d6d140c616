"""Ingest: what is acknowledged is stored once and in order, whatever is repeated."""

import asyncio
import random
from collections.abc import AsyncIterator

import grpc
import pytest

from deploy.local.ports import free_port
from protos.metrics.v1 import ingest_pb2
from tests.support.eventually import eventually
from tests.support.metrics_service import (
    JOB,
    KEY,
    OTHER_KEY,
    Log,
    Metrics,
    batch,
    line,
    log_of_one_job,
    metadata,
    metrics_process,
    point,
    serving,
)
from tests.support.platform import DatabaseUrls, SharedPostgres


@pytest.fixture
async def log(database: DatabaseUrls) -> AsyncIterator[Log]:
    async with log_of_one_job(database) as log:
        yield log


@pytest.fixture
async def metrics(database: DatabaseUrls, log: Log) -> AsyncIterator[Metrics]:
    async with serving(database) as metrics:
        yield metrics


async def test_points_survive_repeats_overlaps_and_gaps(metrics: Metrics) -> None:
    records = [point(step, loss=1 / step) for step in range(1, 21)]
    answers = await metrics.report(
        batch(1, records[:10]),
        batch(1, records[:10]),
        batch(13, records[12:]),
        batch(6, records[5:15]),
        batch(16, records[15:]),
        batch(1, []),
    )
    assert [answer.acknowledged_sequence for answer in answers] == [10, 10, 10, 15, 20, 20]
    assert {answer.refused for answer in answers} == {""}
    assert await metrics.points() == {"loss": [(step, 1 / step) for step in range(1, 21)]}


async def test_lines_survive_repeats_and_read_in_order_from_anywhere(metrics: Metrics, log: Log) -> None:
    texts = [f"line {number} \x1b[31mred\x1b[0m \x00" for number in range(1, 3001)]
    records = [line(text, error=number % 2 == 0) for number, text in enumerate(texts, 1)]
    await metrics.report(
        batch(1, records[:2500], "log"), batch(2000, records[1999:], "log"), batch(1, records[:10], "log")
    )
    await log.attempt(JOB, "at_two")
    await metrics.report(batch(1, [line("again")], "log", "at_two"))
    lines = await metrics.lines()
    assert [found.text for found in lines] == [*texts, "again"]
    assert [found.sequence for found in lines] == [*range(1, 3001), 1]
    assert [found.error for found in lines[:4]] == [False, True, False, True]
    assert [found.text for found in await metrics.lines(tail=2)] == [texts[-1], "again"]
    assert [found.text for found in await metrics.lines(from_line=999, max_lines=3)] == texts[998:1001]
    assert await metrics.lines(from_line=9999) == []


async def test_a_runner_reports_only_its_own_attempts_and_is_never_stalled(metrics: Metrics, log: Log) -> None:
    answers = await metrics.report(batch(1, [point(1, loss=1), point(2, loss=1)]), key=OTHER_KEY)
    answers += await metrics.report(
        batch(5, [point(1, loss=1)], attempt_id="at_unknown"),
        batch(1, [point(1, loss=1)], job_id="jb_wrong"),
        batch(1, [point(1, loss=1)], attempt_id="\x00"),
        batch(1, [point(1, loss=1)], spool="elsewhere"),
        batch(1, [point(1, loss=0.5)]),
    )
    assert [answer.acknowledged_sequence for answer in answers] == [2, 5, 1, 1, 1, 1]
    assert ["not this runner's" in answer.refused for answer in answers] == [True, True, True, True, False, False]
    assert "trainer, log, system" in answers[4].refused
    assert await metrics.points() == {"loss": [(1, 0.5)]}


async def test_an_attempt_is_known_as_soon_as_the_log_has_it(metrics: Metrics, log: Log) -> None:
    for number in range(5):
        await log.job(f"jb_{number}", f"at_{number}")
        request = batch(1, [point(1, loss=1)], attempt_id=f"at_{number}", job_id=f"jb_{number}")
        assert [answer.refused for answer in await metrics.report(request)] == [""]


async def test_a_limit_skips_what_is_above_it_and_says_so(database: DatabaseUrls, log: Log) -> None:
    async with serving(
        database, max_series_per_job=3, max_values_per_record=4, max_log_line_bytes=10, max_batch_records=5
    ) as metrics:
        answers = await metrics.report(
            batch(1, [point(1, a=1, b=1), point(2, **{"x" * 201: 1}), point(3, a=3, c=3, d=3)]),
            batch(4, [point(4, a=4, b=4, c=4, d=4, e=4), point(5, a=5, d=5), line("wrong spool"), point(7, a=7)]),
            batch(8, [point(step, a=step) for step in range(8, 20)]),
        )
        assert [answer.acknowledged_sequence for answer in answers] == [3, 7, 12]
        assert "characters of a series name: 201 is above the limit of 200 (1 skipped)" in answers[0].refused
        assert "series per job: 4 is above the limit of 3 (1 skipped)" in answers[0].refused
        assert "values per record: 5 is above the limit of 4 (1 skipped)" in answers[1].refused
        assert "the spool trainer takes no log_line records (1 skipped)" in answers[1].refused
        # The rest of a batch that is too long is not lost: it is to be sent again.
        assert answers[2].refused == ""
        found = await metrics.points()
        assert sorted(found) in (["a", "b", "c"], ["a", "b", "d"])
        assert [step for step, _ in found["a"]] == [1, 3, 5, 7, 8, 9, 10, 11, 12]
        answers = await metrics.report(
            batch(1, [line("short"), line("much too long"), line("äöüäöü"), line("end")], "log")
        )
        assert answers[0].acknowledged_sequence == 4
        assert "log line bytes: 13 is above the limit of 10 (1 skipped)" in answers[0].refused
        assert [(found.sequence, found.text) for found in await metrics.lines()] == [(1, "short"), (2, "end")]


async def test_a_series_beyond_the_limit_stays_out_after_a_restart_and_in_a_later_attempt(
    database: DatabaseUrls, log: Log
) -> None:
    async with serving(database, max_series_per_job=1) as metrics:
        await metrics.report(batch(1, [point(1, a=1)]))
    await log.attempt(JOB, "at_two")
    async with serving(database, max_series_per_job=1) as metrics:
        answers = await metrics.report(batch(2, [point(2, b=1)]), batch(1, [point(3, a=3, b=3)], attempt_id="at_two"))
        assert ["series per job" in answer.refused for answer in answers] == [True, True]
        assert await metrics.points() == {"a": [(1, 1), (3, 3)]}


async def test_what_is_not_a_batch_ends_the_stream_with_one_sentence(metrics: Metrics) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await metrics.report(batch(0, [point(1, loss=1)]))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    garbage = metrics.channel.stream_stream(
        "/tether.metrics.v1.IngestService/Report",
        request_serializer=bytes,
        response_deserializer=ingest_pb2.ReportResponse.FromString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in garbage(iter([b"\xff\xff\xff"]), metadata=metadata(KEY), timeout=10):
            pass
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert len(await metrics.report(batch(1, [point(1, loss=1)]))) == 1


async def test_two_replicas_store_one_spool_once(database: DatabaseUrls, log: Log) -> None:
    records = [point(step, loss=step) for step in range(1, 2001)]
    async with serving(database) as one, serving(database) as other:
        await asyncio.gather(*(Box(replica, records, seed).ship() for seed, replica in enumerate((one, other, one))))
        expected = {"loss": [(step, float(step)) for step in range(1, 2001)]}
        assert await one.points() == await other.points() == expected


async def test_killing_postgres_amid_the_ingest_loses_and_doubles_nothing(
    metrics: Metrics, postgres: SharedPostgres
) -> None:
    numbers = range(1, 4001)
    trainer = Box(metrics, [point(step, loss=step, accuracy=-step) for step in numbers], seed=1)
    log = Box(metrics, [line(f"line {number}") for number in numbers], seed=2, spool="log")
    shipping = asyncio.gather(trainer.ship(), log.ship())
    for killed_at in (400, 2000):
        await eventually(lambda at=killed_at: trainer.acknowledged >= at, 60)  # type: ignore[misc]
        postgres.kill()
    await shipping
    assert await metrics.points() == {
        "accuracy": [(step, -step) for step in numbers],
        "loss": [(step, step) for step in numbers],
    }
    assert [found.text for found in await metrics.lines()] == [f"line {number}" for number in numbers]


async def test_killing_the_service_amid_the_ingest_loses_and_doubles_nothing(database: DatabaseUrls, log: Log) -> None:
    numbers = range(1, 3001)
    port = free_port()
    # A box dials again at once; gRPC alone would wait for seconds.
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        metrics = Metrics(port, channel)
        box = Box(metrics, [point(step, loss=step) for step in numbers], seed=4)
        shipping = asyncio.create_task(box.ship())
        for killed_at in (300, 1500):
            async with metrics_process(database, port) as process:
                await eventually(lambda at=killed_at: box.acknowledged >= at, 60)  # type: ignore[misc]
                process.kill()
        async with metrics_process(database, port):
            await shipping
            assert await metrics.points() == {"loss": [(step, step) for step in numbers]}


class Box:
    """An agent that is unsure of itself: it repeats, overlaps, leaps ahead and dials again until the end."""

    def __init__(self, metrics: Metrics, records: list[ingest_pb2.Record], seed: int, spool: str = "trainer") -> None:
        self._metrics, self._records, self._spool = metrics, records, spool
        self._chosen = random.Random(seed)
        self.acknowledged = 0

    async def ship(self) -> None:
        while self.acknowledged < len(self._records):
            try:
                for answer in await self._metrics.report(*self._requests(self._chosen.randint(1, 6))):
                    self.acknowledged = max(self.acknowledged, answer.acknowledged_sequence)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise

    def _requests(self, count: int) -> list[ingest_pb2.ReportRequest]:
        firsts = [max(1, self.acknowledged + self._chosen.randint(-20, 60)) for _ in range(count)]
        ends = [first - 1 + self._chosen.randint(1, 80) for first in firsts]
        return [
            batch(first, self._records[first - 1 : end], self._spool) for first, end in zip(firsts, ends, strict=True)
        ]
