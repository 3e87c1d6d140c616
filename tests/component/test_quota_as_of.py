"""The past as it was known: an answer as of a position is the answer that was given there, to the last field."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message

from protos.common.v1.moment_pb2 import Moment
from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.events.v1.workspace_pb2 import MinutesAdjusted
from protos.quota.v1 import quota_pb2 as pb
from services.eventlog.catalogue import EventRow
from services.migrations import migrate
from services.postgres import Pool, open_pool
from services.quota.bootstrap import MIGRATIONS
from services.quota.charges import NAME, TABLES, Charges
from services.quota.domain.minutes import period_of
from services.quota.invoices import Invoices
from services.quota.progress import Progress
from services.quota.usage import UsageAnswers
from services.quota.verify import verify
from services.rpc.errors import InvalidField, NotFound
from tests.support.histories import DAY_MS, HOUR_MS, WORKSPACES, history, record
from tests.support.log import create_log
from tests.support.platform import DatabaseUrls
from tests.support.quota_service import SteppedClock

MONTH_END_MS = 1_796_083_200_000  # 2026-12-01
MINUTE_MS = 60_000
GROUPINGS = list(pb.UsageGrouping.values())
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Applied(Progress):
    """The read model is moved by the test; whoever waits for more than it holds is told."""

    def __init__(self) -> None:
        self.position = 0

    async def reached(self, position: int, timeout_s: float = 10) -> None:
        assert position <= self.position, f"{position} is not applied yet"


class ReadModel:
    """The quota's tables under a log that is there already, moved on as the test wants."""

    def __init__(self, pool: Pool, records: Sequence[EventRecord]) -> None:
        self.pool, self.records = pool, records
        self.clock, self.applied = SteppedClock(0), Applied()
        self.usage = UsageAnswers(pool, self.clock, self.applied)
        self.invoices = Invoices(pool, self.clock, self.applied)

    async def apply(self, last: int) -> None:
        """Everything up to the position, as the projection does it; it is then the moment in which that was told."""
        run = self.records[self.applied.position : last]
        async with self.pool.acquire() as connection, connection.transaction():
            await Charges().apply(connection, run)
            await connection.execute("update quota.checkpoints set position = $1", last)
        self.applied.position = last
        self.clock.step(run[-1].recorded_at_us // 1000 - self.clock.now_ms())

    async def live(self, workspace_id: str, period: str, grouping: int) -> pb.GetUsageResponse:
        request = pb.GetUsageRequest(period=period, group_by=grouping)  # type: ignore[arg-type]
        return await self.usage.answer(workspace_id, request)

    async def as_of(self, workspace_id: str, period: str, grouping: int, moment: Moment) -> pb.GetUsageResponse:
        request = pb.GetUsageRequest(period=period, group_by=grouping, as_of=moment)  # type: ignore[arg-type]
        return await self.usage.answer(workspace_id, request)


@asynccontextmanager
async def read_model(database: DatabaseUrls, records: Sequence[EventRecord]) -> AsyncIterator[ReadModel]:
    await create_log(database)
    log = await open_pool(database.eventlog, "test", max_size=1)
    pool = await open_pool(database.quota, "test", max_size=2)
    try:
        await log.copy_records_to_table(
            "events", schema_name="eventlog", columns=EventRow._fields, records=[row_of(one) for one in records]
        )
        async with pool.acquire() as connection:
            await migrate(connection, "quota", MIGRATIONS)
            await connection.execute("insert into quota.checkpoints select $1, 0, log_id from eventlog.log", NAME)
        yield ReadModel(pool, records)
    finally:
        pool.terminate()
        log.terminate()


def row_of(record: EventRecord) -> EventRow:
    return EventRow(
        record.position,
        UUID(record.event_id),
        record.workspace_id,
        record.stream_kind,
        record.stream_id,
        record.stream_version,
        record.type,
        record.schema_version,
        record.payload.value,
        EPOCH + timedelta(microseconds=record.recorded_at_us),
        record.actor,
        record.correlation_id,
        record.causation_id,
    )


def asked(model: ReadModel) -> list[tuple[str, str, int]]:
    """Workspaces, months around now, and groupings to ask for."""
    now_ms = model.clock.now_ms()
    months = {period_of(now_ms), period_of(now_ms - 20 * DAY_MS)}
    return [(one, month, grouping) for one in WORKSPACES for month in sorted(months) for grouping in GROUPINGS]


@pytest.mark.parametrize("seed", range(5))
async def test_as_of_a_position_is_what_was_answered_there(database: DatabaseUrls, seed: int) -> None:
    chance = random.Random(seed)
    records = history(chance, jobs=6)
    async with read_model(database, records) as model:
        told: list[tuple[int, tuple[str, str, int], pb.GetUsageResponse]] = []
        while model.applied.position < len(records):
            position = min(model.applied.position + chance.randint(1, 9), len(records))
            await model.apply(position)
            told += [(position, question, await model.live(*question)) for question in asked(model)]
        assert any(answer.rows for _, _, answer in told)
        model.clock.step(400 * DAY_MS)
        for position, question, answer in told:
            assert await model.as_of(*question, Moment(position=position)) == answer, (position, question)
        for _, _, answer in told:
            if answer.rows:
                exact = sum(row.charged_ms_micros for row in answer.rows)
                assert answer.used_milliminutes == (exact + 30_000_000) // 60_000_000
        async with model.pool.acquire() as connection:
            for workspace_id in WORKSPACES:
                found = await verify(model.pool, workspace_id, "", model.clock.now_ms())
                assert not found.differences
            before = {
                table: await connection.fetch(f"select * from quota.{table} t order by t::text") for table in TABLES
            }
            # A rebuild, in one batch: batches leave no trace.
            await Charges().clear(connection)
            await Charges().apply(connection, records)
            for table in TABLES:
                assert await connection.fetch(f"select * from quota.{table} t order by t::text") == before[table], table


async def test_as_of_a_time_is_what_was_answered_then(database: DatabaseUrls) -> None:
    chance = random.Random(11)
    records = history(chance, jobs=6)
    async with read_model(database, records) as model:
        told: list[tuple[int, tuple[str, str, int], pb.GetUsageResponse]] = []
        for one, following in pairwise(records):
            await model.apply(one.position)
            until_ms = following.recorded_at_us // 1000
            if until_ms - model.clock.now_ms() > 2:
                model.clock.step(chance.randint(1, until_ms - model.clock.now_ms() - 1))
                question = chance.choice(asked(model))
                told.append((model.clock.now_ms(), question, await model.live(*question)))
        assert any(answer.running_milliminutes for _, _, answer in told)
        await model.apply(len(records))
        model.clock.step(400 * DAY_MS)
        for at_ms, question, answer in told:
            assert await model.as_of(*question, Moment(at_ms=at_ms)) == answer, (at_ms, question)


async def test_an_invoice_as_of_a_position_knows_nothing_later(database: DatabaseUrls) -> None:
    records = history(random.Random(3), jobs=4)
    async with read_model(database, records) as model:
        told = {}
        for one in records:
            await model.apply(one.position)
            if one.stream_kind == "job":
                request = pb.ExplainChargeRequest(job_id=one.stream_id)
                told[one.position] = await model.invoices.explain(one.workspace_id, request)
        model.clock.step(400 * DAY_MS)
        for position, invoice in told.items():
            request = pb.ExplainChargeRequest(job_id=invoice.job_id, as_of=Moment(position=position))
            assert await model.invoices.explain(records[position - 1].workspace_id, request) == invoice
        first = next(one for one in records if one.type == "JobSubmitted")
        before = pb.ExplainChargeRequest(job_id=first.stream_id, as_of=Moment(position=first.position - 1))
        with pytest.raises(NotFound, match="there is no job"):
            await model.invoices.explain(first.workspace_id, before)


async def test_a_moment_that_the_log_does_not_reach_is_refused_and_before_it_there_was_nothing(
    database: DatabaseUrls,
) -> None:
    records = history(random.Random(5), jobs=2)
    async with read_model(database, records) as model:
        await model.apply(len(records))
        first_ms = records[0].recorded_at_us // 1000
        nothing = await model.as_of(WORKSPACES[0], "", pb.USAGE_GROUPING_JOB, Moment(at_ms=first_ms - 1))
        assert nothing == pb.GetUsageResponse(period=period_of(first_ms - 1), as_of_ms=first_ms - 1)
        for moment, words in (
            (Moment(position=0), "the log goes from #1 to"),
            (Moment(position=len(records) + 1), "the log goes from #1 to"),
            (Moment(at_ms=1 << 50), "in the future"),
            (Moment(at_ms=-1), "count from 1970 on"),
            (Moment(), "a position or a time"),
        ):
            with pytest.raises(InvalidField, match=words):
                await model.as_of(WORKSPACES[0], "", 0, moment)


async def test_verification_names_the_job_and_the_month_whose_tables_differ(database: DatabaseUrls) -> None:
    records = history(random.Random(1), jobs=6)
    mine = {one.stream_id for one in records if one.stream_kind == "job" and one.workspace_id == "ws_1"}
    async with read_model(database, records) as model:
        await model.apply(len(records))
        for damage, differs in (
            ("update quota.jobs set person = 'token:other' where job_id = 'jb_1'", {("jb_1", "", "facts")}),
            ("update quota.attempts set gpus = '' where job_id = 'jb_1'", {("jb_1", "", "facts")}),
            ("delete from quota.jobs where workspace_id = 'ws_1'", {(job_id, "", "facts") for job_id in mine}),
            (
                "update quota.usage_history set charged_ms_micros = charged_ms_micros + 1 "
                "where (workspace_id, period, position) = (select workspace_id, period, position "
                "from quota.usage_history where workspace_id = 'ws_1' order by position limit 1)",
                None,
            ),
        ):
            async with model.pool.acquire() as connection:
                await connection.execute(damage)
            found = await verify(model.pool, "ws_1", "", model.clock.now_ms())
            named = {(one.job_id, one.period, one.what) for one in found.differences if one.what}
            if differs is None:
                ((job_id, period, what),) = named
                assert (job_id, what, len(period)) == ("", "history", 7)
            else:
                assert named == differs
            async with model.pool.acquire() as connection, connection.transaction():
                await Charges().clear(connection)
                await Charges().apply(connection, records)


def over_the_months_end() -> list[EventRecord]:
    """Two trainings into December as far as is known at position 9; neither ran into it, as comes out afterwards."""
    start_ms = MONTH_END_MS - 10 * MINUTE_MS
    told: list[tuple[str, Message]] = []
    for number in (1, 2):
        gpus = [job.ChargedGpu(type="NVIDIA A10G", multiplier_micros=2_500_000)]
        at: Any = {"attempt_id": f"at_{number}"}
        events: list[Message] = [
            job.JobSubmitted(name=f"job {number}"),
            job.JobAssigned(**at, runner_id="rn_1", runner_name="box", gpus=gpus, rate_micros=2_500_000),
            job.JobStarted(**at, started_at_ms=start_ms),
            job.JobUnreachable(**at, last_contact_at_ms=start_ms, deadline_at_ms=start_ms + 15 * MINUTE_MS),
        ]
        told += [(f"jb_{number}", event) for event in events]
    lost = job.ChargedInterval(
        started_at_ms=start_ms, charged_until_ms=start_ms + 15 * MINUTE_MS, ended_at_ms=MONTH_END_MS, presumed=True
    )
    truth = job.ChargedInterval(started_at_ms=start_ms, charged_until_ms=start_ms + MINUTE_MS)
    told += [
        ("jb_1", job.JobKilled(attempt_id="at_1", interval=lost)),
        ("jb_1", job.JobOutcomeCorrected(attempt_id="at_1", interval=truth, finished=job.JobFinished())),
        ("jb_2", job.JobFinished(attempt_id="at_2", interval=truth)),
    ]
    records = [
        record(position, event, ("job", job_id), position, MONTH_END_MS + position * 20_000)
        for position, (job_id, event) in enumerate(told, 1)
    ]
    refund = MinutesAdjusted(period="2026-12", milliminutes=-4000, reason="a stuck box", job_id="jb_1")
    return [*records, record(12, refund, ("workspace", "ws_1"), 1, MONTH_END_MS + HOUR_MS)]


async def test_what_was_charged_in_a_month_and_later_was_not_is_still_in_its_past(database: DatabaseUrls) -> None:
    async with read_model(database, over_the_months_end()) as model:
        await model.apply(9)
        live = await model.live("ws_1", "2026-12", pb.USAGE_GROUPING_JOB)
        # The one is settled up to its deadline, five minutes into December; the other accrues, three minutes so far.
        assert {row.key: row.charged_ms_micros for row in live.rows} == {
            "jb_1": 5 * MINUTE_MS * 2_500_000,
            "jb_2": 3 * MINUTE_MS * 2_500_000,
        }
        assert {row.key: row.cut_off_ms_micros for row in live.rows} == {
            row.key: row.charged_ms_micros for row in live.rows
        }
        await model.apply(12)
        assert await model.as_of("ws_1", "2026-12", pb.USAGE_GROUPING_JOB, Moment(position=9)) == live
        for grouping, key, name in (
            (pb.USAGE_GROUPING_JOB, "jb_1", "job 1"),
            (pb.USAGE_GROUPING_RUNNER, "rn_1", "box"),
            (pb.USAGE_GROUPING_GPU_TYPE, "NVIDIA A10G", ""),
            (pb.USAGE_GROUPING_PERSON, "service:test", ""),
            (pb.USAGE_GROUPING_DAY, "", ""),
        ):
            (row,) = (await model.live("ws_1", "2026-12", grouping)).rows
            assert (row.key, row.name, row.milliminutes, row.jobs) == (key, name, -4000, 0)
