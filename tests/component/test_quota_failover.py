"""Two replicas of the quota service: when the one that leads is killed, the other one sees the last minute go."""

from protos.events.v1.job_pb2 import JobAssigned, JobKillRequested, JobStarted
from protos.events.v1.workspace_pb2 import QuotaSet
from protos.scheduler.v1.session_pb2 import BoxMoment, Started
from protos.training.v1.training_pb2 import EndReason
from services.eventlog.append import Append, StreamAppend
from services.eventlog.read import Filter, read_range
from services.postgres import Pool
from tests.support.control import control_plane
from tests.support.eventually import eventually
from tests.support.log import appender_on, pool_on
from tests.support.platform import DatabaseUrls, SharedNats
from tests.support.quota_process import quota_process

# Of a replica that does not fail over, and of the move of the leadership.
BOUND_MS, FAILOVER_MS = 2_000, 10_000
# What the clock of a service may be off by while all of this shares two cores.
SKEW_MS = 250
LEFT_MS = 4_000
MS_MICROS_PER_MILLIMINUTE = 60 * 10**6


async def leaders(pool: Pool) -> int:
    """Connections that lead the quota's timer, or wait for it."""
    found: int = await pool.fetchval("select count(*) from pg_stat_activity where application_name = 'quota.timer'")
    return found


async def now_ms(pool: Pool) -> int:
    found: int = await pool.fetchval("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
    return found


async def told(pool: Pool, name: str) -> list[tuple[int, bytes]]:
    """When events of this type were recorded, Unix milliseconds, with their payloads."""
    pages = read_range(pool, 1, 1 << 62, Filter(types=(name,)))
    return [(one.recorded_at_us // 1000, one.payload.value) async for page in pages for one in page]


async def test_the_last_minute_is_seen_by_the_other_replica_when_the_leader_is_killed_just_before(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    async with (
        control_plane(database, own_nats.url) as control,
        pool_on(database.quota) as pool,
        quota_process(database.quota, own_nats.url) as first,
    ):

        async def replicas(count: int) -> None:
            async def there() -> bool:
                return await leaders(pool) == count

            await eventually(there, 30, f"{count} replica(s)")

        await replicas(1)
        async with quota_process(database.quota, own_nats.url):
            await replicas(2)
            await control.dataset()
            _, box = await control.box()
            welcome = await box.connect()
            await control.submit()
            started_at = BoxMoment(anchor_at_ms=welcome.platform_at_ms)
            await box.report(await box.assignment(), 1, started=Started(at=started_at, weights="random"))
            start_ms = JobStarted.FromString((await told(pool, "JobStarted"))[0][1]).started_at_ms
            rate_micros = JobAssigned.FromString((await told(pool, "JobAssigned"))[0][1]).rate_micros
            wanted_ms = await now_ms(pool) + LEFT_MS - start_ms
            quota = QuotaSet(quota_milliminutes=wanted_ms * rate_micros // MS_MICROS_PER_MILLIMINUTE)
            due_ms = start_ms + quota.quota_milliminutes * MS_MICROS_PER_MILLIMINUTE // rate_micros
            async with appender_on(database.quota) as log:
                stream = StreamAppend("workspace", control.workspace_id, None, [quota])
                await log.append(Append(control.workspace_id, [stream], actor="token:test"))

            async def nearly() -> bool:
                return await now_ms(pool) >= due_ms - 500

            await eventually(nearly, 30, "half a second before the last minute is used up")
            first.kill()

            async def stopped() -> bool:
                return bool(await told(pool, "JobKillRequested"))

            await eventually(stopped, 30, "the stop")
        (exhausted_ms, _), *more = await told(pool, "QuotaExhausted")
        ((stopped_ms, stop),) = await told(pool, "JobKillRequested")
        print(f"stopped {stopped_ms - due_ms} ms after the last minute was used up")
        assert not more
        assert JobKillRequested.FromString(stop).reason == EndReason.END_REASON_QUOTA_EXHAUSTED
        assert due_ms - SKEW_MS <= exhausted_ms <= stopped_ms <= due_ms + BOUND_MS + FAILOVER_MS
