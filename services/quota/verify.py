"""Recomputes a workspace's minutes from its events and compares them with the read model."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.quota.v1.quota_pb2 import ChargeDifference
from services.eventlog.read import Filter, read_page, read_stream
from services.postgres import Connection, Pool
from services.quota.domain.attempt import Attempt, charge
from services.quota.domain.ledger import MINUTES_EVENTS, Ledger, settled_totals
from services.quota.rows import attempt_of
from services.quota.store import read_position

# Of jobs, and of months.
MAX_DIFFERENCES = 1000

_PAGE = 5000
# Positions that one statement looks through at most: a small workspace in a large log must not run into a timeout.
_WINDOW = 200_000
_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Verification:
    """Both sides as of `position`; no difference means that they are equal."""

    position: int
    jobs: int
    events_replayed: int
    # Of attempts that have ended, in ms × millionths.
    settled_ms_micros: int
    differences: list[ChargeDifference]


async def verify(pool: Pool, workspace_id: str, job_id: str, now_ms: int) -> Verification:
    """Replay the workspace's events (with `job_id` only that job's) up to the read model's position, and compare.

    All is read in one snapshot. Events pass through page by page; what stays in memory is one state an attempt.
    Running attempts are compared as of `now_ms`. Raises asyncpg's connection errors.
    """
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        position = await read_position(connection)
        ledger, events = await _replay(connection, workspace_id, job_id, position)
        jobs = _charge_by_job(ledger, now_ms)
        totals = settled_totals(ledger.attempts.values())
        settled_ms_micros = sum(totals.values())
        differences = await _compare_jobs(connection, workspace_id, job_id, dict(jobs), now_ms)
        if not job_id:
            for _, period, ms_micros in ledger.adjustments.values():
                totals[period] = totals.get(period, 0) + ms_micros
            differences += await _compare_totals(connection, workspace_id, totals)
    return Verification(position, len(jobs), events, settled_ms_micros, differences)


async def _replay(connection: Connection, workspace_id: str, job_id: str, last: int) -> tuple[Ledger, int]:
    ledger, events = Ledger(), 0
    async for page in _pages(connection, workspace_id, job_id, last):
        for record in page:
            ledger.take(record)
        events += len(page)
    return ledger, events


async def _pages(connection: Connection, workspace_id: str, job_id: str, last: int) -> AsyncIterator[list[EventRecord]]:
    if job_id:
        stream = await read_stream(connection, "job", job_id)
        yield [record for record in stream if record.position <= last and record.type in MINUTES_EVENTS]
        return
    matching, first = Filter(workspace_id, MINUTES_EVENTS), 1
    while first <= last:
        end = min(first + _WINDOW - 1, last)
        page = await read_page(connection, first, end, matching, _PAGE)
        yield page
        first = page[-1].position + 1 if len(page) == _PAGE else end + 1


def _charge_by_job(ledger: Ledger, now_ms: int) -> dict[str, int]:
    jobs: dict[str, int] = {}
    for attempt in ledger.attempts.values():
        jobs[attempt.job_id] = jobs.get(attempt.job_id, 0) + charge(attempt, now_ms)
    return jobs


async def _compare_jobs(
    connection: Connection, workspace_id: str, job_id: str, replayed: dict[str, int], now_ms: int
) -> list[ChargeDifference]:
    """What GetUsage adds up: settled by job, and the accrual of what runs. Empties `replayed`."""
    running: dict[str, int] = {}
    rows = await connection.fetch(
        "select * from quota.attempts where workspace_id = $1 and started_position > 0 and outcome_position = 0 "
        "and ($2 = '' or job_id = $2)",
        workspace_id,
        job_id,
    )
    attempts: list[Attempt] = [attempt_of(row) for row in rows]
    for attempt in attempts:
        running[attempt.job_id] = running.get(attempt.job_id, 0) + charge(attempt, now_ms)
    differences: list[ChargeDifference] = []
    async for row in connection.cursor(
        "select job_id, sum(ms_micros) as ms_micros from quota.job_usage "
        "where workspace_id = $1 and ($2 = '' or job_id = $2) group by job_id",
        workspace_id,
        job_id,
        prefetch=_PAGE,
    ):
        recorded = int(row["ms_micros"]) + running.pop(row["job_id"], 0)
        _compare(differences, replayed.pop(row["job_id"], 0), recorded, job_id=row["job_id"])
    for job in sorted(replayed.keys() | running.keys()):
        _compare(differences, replayed.get(job, 0), running.get(job, 0), job_id=job)
    return differences


async def _compare_totals(
    connection: Connection, workspace_id: str, replayed: dict[str, int]
) -> list[ChargeDifference]:
    rows = await connection.fetch(
        "select period, charged_ms_micros + adjusted_ms_micros as ms_micros from quota.usage where workspace_id = $1",
        workspace_id,
    )
    recorded = {row["period"]: int(row["ms_micros"]) for row in rows}
    differences: list[ChargeDifference] = []
    for period in sorted(recorded.keys() | replayed.keys()):
        _compare(differences, replayed.get(period, 0), recorded.get(period, 0), period=period)
    return differences


def _compare(
    differences: list[ChargeDifference], replayed: int, recorded: int, job_id: str = "", period: str = ""
) -> None:
    if replayed != recorded and len(differences) < MAX_DIFFERENCES:
        differences.append(
            ChargeDifference(
                job_id=job_id,
                period=period,
                replayed_ms_micros=_shown(replayed),
                recorded_ms_micros=_shown(recorded),
            )
        )


def _shown(ms_micros: int) -> int:
    return max(min(ms_micros, _LARGEST), -_LARGEST)
