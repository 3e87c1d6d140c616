"""Reading the read model. Each function sees one moment of it and says which position that was."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.postgres import Connection, Pool, Record
from services.quota.charges import NAME
from services.quota.domain.attempt import Attempt
from services.quota.domain.budget import Budget
from services.quota.rows import attempt_of
from services.rpc.errors import Unavailable

# After every position.
_LAST = (1 << 63) - 1
RUNNING = "started_position > 0 and outcome_position = 0"


@dataclass(frozen=True, slots=True)
class Usage:
    """A workspace's month as known at `position`."""

    position: int
    quota_milliminutes: int | None
    settled_ms_micros: int
    # Of `settled_ms_micros`: adjustments.
    adjusted_ms_micros: int
    running: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class Job:
    """A job that had an attempt, with all its attempts in the order in which they were assigned."""

    job_id: str
    name: str
    # Orders jobs; unique.
    position: int
    attempts: Sequence[tuple[str, Attempt]]


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Empty fields do not filter."""

    workspace_id: str
    period: str = ""
    start_ms: int = 0
    end_ms: int = 0
    job_id: str = ""
    # Position of the last job of the page before; zero: from the newest.
    before: int = 0
    limit: int = 100
    now_ms: int = 0


async def read_position(connection: Connection | Pool) -> int:
    """Everything up to here is in the tables. Raises Unavailable before the first start of the projection."""
    position: int | None = await connection.fetchval("select position from quota.checkpoints where name = $1", NAME)
    return _known(position)


async def read_usage(connection: Connection | Pool, workspace_id: str, period: str) -> Usage:
    """One statement, and as many rows as attempts run: history makes no difference."""
    rows = await connection.fetch(
        "select c.position as known_position, q.quota_milliminutes, coalesce(u.charged_ms_micros, 0) as settled, "
        "coalesce(u.adjusted_ms_micros, 0) as adjusted, r.* "
        "from quota.checkpoints c left join quota.quotas q on q.workspace_id = $1 "
        "left join quota.usage u on u.workspace_id = $1 and u.period = $2 "
        f"left join quota.attempts r on r.workspace_id = $1 and {RUNNING} where c.name = $3",
        workspace_id,
        period,
        NAME,
    )
    first = rows[0] if rows else None
    position = _known(first["known_position"] if first else None)
    assert first is not None  # or else the position was not known
    running = [attempt_of(row) for row in rows if row["attempt_id"] is not None]
    settled, adjusted = int(first["settled"]), int(first["adjusted"])
    return Usage(position, first["quota_milliminutes"], settled + adjusted, adjusted, running)


async def read_job_name(pool: Pool, workspace_id: str, job_id: str, last: int | None = None) -> str | None:
    """None where the workspace had no such job at the position `last`; absent: has none."""
    name: str | None = await pool.fetchval(
        "select name from quota.jobs where job_id = $2 and workspace_id = $1 and position <= $3",
        workspace_id,
        job_id,
        _LAST if last is None else last,
    )
    return name


async def read_jobs(pool: Pool, query: JobQuery) -> list[Job]:
    """Jobs that had an attempt, newest first; with a period only those that were charged in it, or accrue in it."""
    if query.period:
        # Running attempts are not in job_usage yet: they count where their interval, as known now, touches the month.
        page = (
            "(select job_position as position, job_id from quota.job_usage where workspace_id = $1 and period = $5 "
            "and ($2 = '' or job_id = $2) and job_position < $3 order by job_position desc limit $4) "
            "union (select j.position, j.job_id from quota.attempts a join quota.jobs j using (job_id) "
            f"where a.workspace_id = $1 and {RUNNING} and a.started_at_ms < $7 "
            "and least($8, nullif(a.deadline_at_ms, 0)) >= $6 "
            "and ($2 = '' or job_id = $2) and j.position < $3 order by position desc limit $4) "
            "order by position desc limit $4"
        )
        filters: tuple[object, ...] = (query.period, query.start_ms, query.end_ms, query.now_ms)
    else:
        page = (
            "select position, job_id from quota.jobs j where workspace_id = $1 and ($2 = '' or job_id = $2) "
            "and position < $3 and exists (select from quota.attempts a where a.job_id = j.job_id) "
            "order by position desc limit $4"
        )
        filters = ()
    rows = await pool.fetch(
        f"with page as ({page}) select p.position, j.name, a.* from page p join quota.jobs j using (job_id) "
        "join quota.attempts a using (job_id) order by p.position desc, a.assigned_position, a.attempt_id",
        query.workspace_id,
        query.job_id,
        query.before or _LAST,
        query.limit,
        *filters,
    )
    return _grouped(rows)


async def read_limited(pool: Pool) -> list[str]:
    """The workspaces whose quota is not unlimited."""
    rows = await pool.fetch("select workspace_id from quota.quotas where quota_milliminutes is not null")
    return [row["workspace_id"] for row in rows]


async def read_budgets(pool: Pool, workspaces: Sequence[str], period: str) -> dict[str, Budget]:
    """The budgets of those of the workspaces that have a quota, all as of one position."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        position = await read_position(connection)
        rows = await connection.fetch(
            "select q.workspace_id, q.quota_milliminutes, "
            "coalesce(u.charged_ms_micros, 0) + coalesce(u.adjusted_ms_micros, 0) as settled_ms_micros, "
            "array(select t.percent from quota.thresholds t where t.workspace_id = q.workspace_id and t.period = $2) "
            "as reached_percent, "
            "exists(select from quota.exhaustions e where e.workspace_id = q.workspace_id and e.period = $2 "
            "and e.position > q.position) as exhausted "
            "from quota.quotas q left join quota.usage u on u.workspace_id = q.workspace_id and u.period = $2 "
            "where q.workspace_id = any($1::text[]) and q.quota_milliminutes is not null",
            workspaces,
            period,
        )
        running: dict[str, list[Attempt]] = {row["workspace_id"]: [] for row in rows}
        for row in await connection.fetch(
            f"select * from quota.attempts where workspace_id = any($1::text[]) and {RUNNING}", list(running)
        ):
            running[row["workspace_id"]].append(attempt_of(row))
    return {
        row["workspace_id"]: Budget(
            period,
            position,
            row["quota_milliminutes"],
            int(row["settled_ms_micros"]),
            running[row["workspace_id"]],
            frozenset(row["reached_percent"]),
            row["exhausted"],
        )
        for row in rows
    }


def _known(position: int | None) -> int:
    if position is None:
        raise Unavailable("the minutes are about to be counted for the first time; repeat the request in a second")
    return position


def _grouped(rows: Sequence[Record]) -> list[Job]:
    jobs: list[Job] = []
    attempts: list[tuple[str, Attempt]] = []
    for row in rows:
        if not jobs or jobs[-1].job_id != row["job_id"]:
            attempts = []
            jobs.append(Job(row["job_id"], row["name"], row["position"], attempts))
        attempts.append((row["attempt_id"], attempt_of(row)))
    return jobs
