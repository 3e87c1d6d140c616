"""The quota service among what fails: replicas and their connections, NATS, boxes that are cut off, its own tables."""

import random
from collections.abc import Sequence

import asyncpg
import nats
from google.protobuf.message import Message

from protos.common.v1.moment_pb2 import Moment
from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.events.v1.workspace_pb2 import QuotaReplenished
from protos.quota.v1 import quota_pb2 as pb
from protos.training.v1.training_pb2 import EndReason
from services.eventlog.relay import STREAM
from tests.support.eventually import eventually
from tests.support.filled_log import fill
from tests.support.histories import history
from tests.support.platform import DatabaseUrls, SharedNats
from tests.support.quota import NOON_MS, assigned, interval
from tests.support.quota_service import WORKSPACE, QuotaUnderTest, SteppedClock, quota_service
from tests.support.slow_minutes import minutes_by_month

SECOND_MS = 1000
MINUTE_MS = 60_000
WINDOW_MS = 15 * MINUTE_MS


async def start_job(quota: QuotaUnderTest, number: int = 1) -> int:
    """A job at one minute a minute from the clock's now on; its position."""
    started = job.JobStarted(attempt_id=f"at_{number}", started_at_ms=quota.clock.now_ms())
    return await quota.job(f"jb_{number}", assigned(f"at_{number}"), started)


async def terminate(database: DatabaseUrls) -> None:
    """End every connection of the service: its leaders', its pools' and its appenders'."""
    admin = await asyncpg.connect(database.admin)
    await admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and application_name like 'quota%'"
    )
    await admin.close()


async def test_two_replicas_whose_connections_die_again_and_again_say_each_thing_once(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url, replicas=2) as quota:
        await quota.set_quota(6000)
        await quota.usage(await start_job(quota))
        for _ in range(9):
            quota.clock.step(50 * SECOND_MS)
            await terminate(database)
        await quota.said(75, 90, 100, "exhausted")
        await terminate(database)
        verified = await eventually(lambda: quota.verify(pb.VerifyUsageRequest()), what="an answer")
        assert verified.equal


async def test_nothing_is_lost_where_nats_is_emptied_or_gone(database: DatabaseUrls, own_nats: SharedNats) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await start_job(quota, 1)
        client = await nats.connect(own_nats.url)

        async def emptied() -> bool:
            return await client.jetstream().delete_stream(STREAM)

        assert await eventually(emptied, what="the stream, to be deleted")
        await client.close()
        position = await start_job(quota, 2)
        quota.clock.step(MINUTE_MS)
        assert (await quota.usage(position)).used_milliminutes == 2000
        await own_nats.stop()
        ended = job.JobFinished(attempt_id="at_1", interval=interval(NOON_MS, NOON_MS + 30 * SECOND_MS))
        position = await quota.job("jb_1", ended)
        assert (await eventually(lambda: quota.usage(position), what="an answer")).used_milliminutes == 1500
        await own_nats.start()
        position = await start_job(quota, 3)
        quota.clock.step(MINUTE_MS)
        usage = await eventually(lambda: quota.usage(position), what="an answer")
        assert usage.used_milliminutes == 500 + 2000 + 1000


async def test_a_box_that_cannot_hear_the_stop_is_charged_up_to_its_window_and_no_further(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with quota_service(database, own_nats.url) as quota:
        await quota.set_quota(2000)
        await start_job(quota)
        contact_ms = NOON_MS + 30 * SECOND_MS
        quota.clock.step(45 * SECOND_MS)
        silent = job.JobUnreachable(
            attempt_id="at_1", last_contact_at_ms=contact_ms, deadline_at_ms=contact_ms + WINDOW_MS
        )
        await quota.usage(await quota.job("jb_1", silent))
        quota.clock.step(75 * SECOND_MS)
        await quota.said(75, 90, 100, "exhausted")
        quota.clock.step(3 * WINDOW_MS)
        bound = 2000 + WINDOW_MS // 60
        assert (await quota.usage()).used_milliminutes == 30_000 // 60 + WINDOW_MS // 60 <= bound
        lost = job.JobKilled(
            attempt_id="at_1",
            interval=interval(NOON_MS, contact_ms + WINDOW_MS, presumed=True),
            reason=EndReason.END_REASON_QUOTA_EXHAUSTED,
        )
        position = await quota.job("jb_1", lost)
        assert (await quota.usage(position)).used_milliminutes <= bound
        # It had finished in time: what was presumed is taken back, and there are minutes again.
        truth = interval(NOON_MS, contact_ms)
        corrected = job.JobOutcomeCorrected(
            attempt_id="at_1", corrects_position=position, interval=truth, finished=job.JobFinished()
        )
        position = await quota.job("jb_1", corrected)
        assert (await quota.usage(position)).used_milliminutes == 500
        (said,) = await eventually(lambda: quota.events("QuotaReplenished"), what="QuotaReplenished")
        event = QuotaReplenished.FromString(said.payload.value)
        assert (event.used_milliminutes, event.quota_milliminutes) == (500, 2000)
        assert position <= event.position < said.position
        await quota.said(75, 90, 100, "exhausted")


async def answers(quota: QuotaUnderTest, records: Sequence[EventRecord]) -> list[Message]:
    """Everything that can be asked of the workspace, now and as of earlier positions; without today's position."""
    stub, metadata = quota.stub, quota.metadata()
    head = len(records)
    months = sorted({month for workspace_id, month in minutes_by_month(records, quota.clock.now_ms())})
    asked = [Moment(position=position) for position in (1, head // 3, head // 2, head)]
    given: list[Message] = [(await quota.verify(pb.VerifyUsageRequest(min_position=head)))]
    for month in months:
        for grouping in pb.UsageGrouping.values():
            for as_of in (None, *asked):
                request = pb.GetUsageRequest(period=month, group_by=grouping, as_of=as_of)
                given.append(await stub.GetUsage(request, metadata=metadata, timeout=30))
    listed = await quota.charges(pb.ListChargesRequest(page_size=1000))
    given.append(listed)
    for charge in listed.charges:
        explain = pb.ExplainChargeRequest(job_id=charge.job_id)
        given.append(await stub.ExplainCharge(explain, metadata=metadata, timeout=30))
        explain.as_of.position = head
        given.append(await stub.ExplainCharge(explain, metadata=metadata, timeout=30))
    for one in given:
        if one.DESCRIPTOR.fields_by_name.get("position"):
            one.ClearField("position")
    return given


async def test_all_its_tables_can_be_dropped_and_the_answers_are_the_same(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    records = history(random.Random(9), jobs=12)
    await fill(database, records)
    now_ms = records[-1].recorded_at_us // 1000 + 60 * MINUTE_MS
    async with quota_service(database, own_nats.url, SteppedClock(now_ms)) as quota:
        before = await answers(quota, records)
        jobs = len((await quota.charges(pb.ListChargesRequest(page_size=1000))).charges)
    assert jobs > 3, f"{WORKSPACE} had something to answer"
    admin = await asyncpg.connect(database.admin)
    tables = await admin.fetch("select tablename from pg_tables where schemaname = 'quota'")
    await admin.execute(f"drop table {', '.join('quota.' + row['tablename'] for row in tables)} cascade")
    await admin.close()
    async with quota_service(database, own_nats.url, SteppedClock(now_ms)) as quota:
        after = await answers(quota, records)
    assert len(after) == len(before)
    for was, is_now in zip(before, after, strict=True):
        assert is_now == was
