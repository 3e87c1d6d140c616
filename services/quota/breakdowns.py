"""Reading what a month's minutes are broken down into."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from protos.quota.v1.quota_pb2 import UsageGrouping
from services.postgres import Connection, Record
from services.quota.domain.breakdown import Breakdown, JobFacts, Part, Row
from services.quota.domain.lapses import LinkChange
from services.quota.domain.spans import nodes_above
from services.quota.history import attempts_as_of
from services.quota.rows import gpus_of
from services.quota.store import RUNNING

# Rows in memory at once.
_PAGE = 2000

# Jobs that can have a share in month $2 of workspace $1 as known at position $3: those charged or adjusted in it, those
# that ran then ($4 are the nodes above), and those that were charged otherwise before a later correction.
_JOBS = f"""
select job_id from quota.job_usage where workspace_id = $1 and period = $2 and job_position <= $3
union select job_id from quota.attempts where workspace_id = $1 and {RUNNING} and started_position <= $3
union select job_id from quota.attempts where workspace_id = $1 and span_node = any($4::bigint[])
    and started_position <= $3 and ended_position > $3
union select job_id from quota.attempts where workspace_id = $1 and corrected and outcome_position > $3
    and ended_position <= $3
union select job_id from quota.adjustments where workspace_id = $1 and period = $2 and position <= $3 and job_id <> ''
"""

_ATTEMPTS = f"""
select j.position as job_position, j.name as job_name, j.person, j.workflow, j.workflow_name,
    j.job_id as of_job, a.*
from ({_JOBS}) found join quota.jobs j on j.job_id = found.job_id
left join quota.attempts a on a.job_id = j.job_id and a.assigned_position <= $3
where j.workspace_id = $1 and j.position <= $3
order by j.position, a.assigned_position, a.attempt_id
"""


async def read_breakdown(
    connection: Connection,
    workspace_id: str,
    period: str,
    grouping: UsageGrouping.ValueType,
    position: int,
    now_ms: int,
) -> list[Row]:
    """The rows of a month as known at the position, running attempts up to `now_ms`. In a transaction with the reading
    of the total, they add up to it. Constant memory but for the rows."""
    breakdown = Breakdown(grouping, period, now_ms)
    adjusted = await _adjusted(connection, workspace_id, period, position)
    async for job, parts in _jobs(connection, workspace_id, period, position):
        breakdown.add(job, parts, adjusted.pop(job.job_id, 0))
    # What names no job, or one that nothing is known of.
    breakdown.adjust(sum(adjusted.values()))
    return breakdown.rows()


async def _adjusted(connection: Connection, workspace_id: str, period: str, position: int) -> dict[str, int]:
    """By the job that is named."""
    rows = await connection.fetch(
        "select job_id, sum(ms_micros) as ms_micros from quota.adjustments "
        "where workspace_id = $1 and period = $2 and position <= $3 group by job_id",
        workspace_id,
        period,
        position,
    )
    return {row["job_id"]: int(row["ms_micros"]) for row in rows}


async def _jobs(
    connection: Connection, workspace_id: str, period: str, position: int
) -> AsyncIterator[tuple[JobFacts, Sequence[Part]]]:
    """Each job once, with its attempts in order."""
    job: JobFacts | None = None
    parts: list[Part] = []
    cursor = await connection.cursor(_ATTEMPTS, workspace_id, period, position, nodes_above(position))
    while rows := await cursor.fetch(_PAGE):
        for row, part in zip(rows, await _parts(connection, rows, position), strict=True):
            if job is None or job.job_id != row["of_job"]:
                if job is not None:
                    yield job, parts
                job, parts = _facts(row), []
            if part is not None:
                parts.append(part)
    if job is not None:
        yield job, parts


async def _parts(connection: Connection, rows: Sequence[Record], position: int) -> list[Part | None]:
    """None for a job without an attempt, and an attempt of which nothing was known."""
    told = [row for row in rows if row["attempt_id"] is not None]
    attempts = iter(await attempts_as_of(connection, told, position))
    cut_off = [row["attempt_id"] for row in told if row["link_position"]]
    links = await _links(connection, cut_off, position) if cut_off else {}
    parts: list[Part | None] = []
    for row in rows:
        attempt = next(attempts) if row["attempt_id"] is not None else None
        known = Part(attempt, gpus_of(row["gpus"]), links.get(row["attempt_id"], ())) if attempt is not None else None
        parts.append(known)
    return parts


async def _links(connection: Connection, attempt_ids: Sequence[str], position: int) -> dict[str, list[LinkChange]]:
    found: dict[str, list[LinkChange]] = defaultdict(list)
    for attempt_id, *link in await connection.fetch(
        "select attempt_id, position, cut_off, ms from quota.links "
        "where attempt_id = any($1::text[]) and position <= $2",
        attempt_ids,
        position,
    ):
        found[attempt_id].append(LinkChange(*link))
    return found


def _facts(row: Record) -> JobFacts:
    return JobFacts(row["of_job"], row["job_name"], row["person"], row["workflow"], row["workflow_name"])
