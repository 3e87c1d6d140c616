"""Recomputes a workspace's minutes from its events and compares them with the read model."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from protos.quota.v1.quota_pb2 import ChargeDifference
from services.eventlog.read import read_stream
from services.postgres import Connection, Pool
from services.quota.domain.attempt import charge, settled_by_period
from services.quota.domain.ledger import Ledger
from services.quota.replay import replay_jobs
from services.quota.rows import attempt_of
from services.quota.store import read_position
from services.quota.verify_tables import compare_tables

# Of jobs, and of months.
MAX_DIFFERENCES = 1000

_PAGE = 5000
# PostgreSQL sorts a workspace's jobs before it hands out the first.
_SORT_TIMEOUT_S = 900
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

    All is read in one snapshot, and in constant memory however long the log is. Running attempts are compared as of
    `now_ms`. Raises asyncpg's connection errors.
    """
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        position = await read_position(connection)
        found = _Found(position)
        await _compare_jobs(connection, workspace_id, job_id, found, now_ms)
        found.settled_ms_micros = sum(found.totals.values())
        if not job_id:
            await _add_adjustments(connection, workspace_id, found)
            await _compare_totals(connection, workspace_id, found)
        named = {(one.job_id, one.period) for one in found.differences}
        beside = await compare_tables(connection, workspace_id, job_id, position, MAX_DIFFERENCES)
        found.differences += [one for one in beside if (one.job_id, one.period) not in named]
    return Verification(position, found.jobs, found.events, found.settled_ms_micros, found.differences)


@dataclass(slots=True)
class _Found:
    """What the replay has come to so far."""

    position: int
    jobs: int = 0
    events: int = 0
    # Month → what it costs, in ms × millionths.
    totals: dict[str, int] = field(default_factory=dict)
    settled_ms_micros: int = 0
    differences: list[ChargeDifference] = field(default_factory=list)


async def _compare_jobs(connection: Connection, workspace_id: str, job_id: str, found: _Found, now_ms: int) -> None:
    """Replayed and recorded jobs come in the same order, and are compared as they pass."""
    recorded = _recorded_jobs(connection, workspace_id, job_id, now_ms)
    known = await anext(recorded, None)
    async for jobs in replay_jobs(connection, workspace_id, found.position, job_id):
        for job in jobs:
            if not job.attempts:
                continue
            found.jobs += 1
            found.events += job.events
            replayed = 0
            for attempt in job.attempts.values():
                replayed += charge(attempt, now_ms)
                for period, ms_micros in settled_by_period(attempt).items():
                    found.totals[period] = found.totals.get(period, 0) + ms_micros
            while known is not None and known[0].encode() < job.job_id.encode():
                _compare(found.differences, 0, known[1], job_id=known[0])
                known = await anext(recorded, None)
            charged = 0
            if known is not None and known[0] == job.job_id:
                charged = known[1]
                known = await anext(recorded, None)
            _compare(found.differences, replayed, charged, job_id=job.job_id)
    while known is not None:
        _compare(found.differences, 0, known[1], job_id=known[0])
        known = await anext(recorded, None)


async def _recorded_jobs(
    connection: Connection, workspace_id: str, job_id: str, now_ms: int
) -> AsyncIterator[tuple[str, int]]:
    """What GetUsage adds up, by job in the order of the ids' bytes: settled sums, and the accrual of what runs."""
    rows = await connection.fetch(
        "select * from quota.attempts where workspace_id = $1 and started_position > 0 and outcome_position = 0 "
        "and ($2 = '' or job_id = $2)",
        workspace_id,
        job_id,
    )
    running: dict[str, int] = {}
    for attempt in map(attempt_of, rows):
        running[attempt.job_id] = running.get(attempt.job_id, 0) + charge(attempt, now_ms)
    cursor = await connection.cursor(
        "select job_id, sum(ms_micros) as ms_micros from ("
        "select job_id, ms_micros from quota.job_usage where workspace_id = $1 and ($2 = '' or job_id = $2) "
        'union all select unnest($3::text[]), 0) jobs group by job_id order by job_id collate "C"',
        workspace_id,
        job_id,
        list(running),
        timeout=_SORT_TIMEOUT_S,
    )
    while rows := await cursor.fetch(_PAGE, timeout=_SORT_TIMEOUT_S):
        for row in rows:
            yield row["job_id"], int(row["ms_micros"]) + running.get(row["job_id"], 0)


async def _add_adjustments(connection: Connection, workspace_id: str, found: _Found) -> None:
    ledger = Ledger()
    for record in await read_stream(connection, "workspace", workspace_id):
        if record.position <= found.position:
            ledger.take(record)
    for _, period, ms_micros in ledger.adjustments.values():
        found.totals[period] = found.totals.get(period, 0) + ms_micros


async def _compare_totals(connection: Connection, workspace_id: str, found: _Found) -> None:
    rows = await connection.fetch(
        "select period, charged_ms_micros + adjusted_ms_micros as ms_micros from quota.usage where workspace_id = $1",
        workspace_id,
    )
    recorded = {row["period"]: int(row["ms_micros"]) for row in rows}
    for period in sorted(recorded.keys() | found.totals.keys()):
        _compare(found.differences, found.totals.get(period, 0), recorded.get(period, 0), period=period)


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
