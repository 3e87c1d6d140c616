"""Lists of jobs, newest first, filtered in the database: each filter has an index, and `search` looks at names."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.postgres import Pool
from services.scheduler.domain.job import Job
from services.scheduler.domain.kinds import State
from services.scheduler.serde import load

# Jobs whose names one page of a search looks through. Names cannot be looked up, so the newest are read one after
# another, out of an index: 50,000 of them take PostgreSQL 20 ms on two cores.
MOST_SEARCHED = 100_000
# Rows that are completed at once.
_AT_ONCE = 1000
_ID = re.compile(r"jb_[a-z2-7]{16}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs; what is empty does not filter."""

    states: Sequence[State] = ()
    # A part of the name in whatever case, or a whole id.
    search: str = ""
    runner_id: str = ""
    dataset_id: str = ""
    architecture_id: str = ""
    workflow_id: str = ""
    submitted_by: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """`next_before`: what the next page is asked for with; zero: there is none.

    A search's page may be short, or empty, and yet be followed by another.
    """

    jobs: Sequence[Job]
    next_before: int


def folded(text: str) -> str:
    """Equal for texts that people read as the same but for their case."""
    return unicodedata.normalize("NFKC", text).casefold()


def columns(job: Job) -> dict[str, Any]:
    """The columns of a job's row that lists are filtered by."""
    return {
        "name_folded": folded(job.name),
        "last_runner_id": job.runner_id,
        "dataset_id": job.spec.dataset.dataset_id,
        "architecture_id": job.spec.architecture.architecture_id,
        "workflow_id": job.spec.workflow_id,
        "submitted_by": job.submitted_by,
    }


async def page_of(pool: Pool, workspace_id: str, wanted: Wanted, before: int, size: int) -> Page:
    """At most `size` jobs that were submitted before a position (zero: all). An empty workspace id means all."""
    where, arguments = _where(workspace_id, wanted, before)
    if wanted.search and not _ID.fullmatch(wanted.search):
        return await _searched(pool, where, arguments, folded(wanted.search), size)
    rows = await pool.fetch(
        f"select state from scheduler.jobs {where} order by submitted_position desc limit ${len(arguments) + 1}",
        *arguments,
        size + 1,
    )
    jobs = [load(row["state"], Job) for row in rows]
    return Page(jobs[:size], jobs[size - 1].position if len(jobs) > size else 0)


async def _searched(pool: Pool, where: str, arguments: list[Any], part: str, size: int) -> Page:
    """The page of those whose names contain `part`."""
    newest = f"from scheduler.jobs {where} order by submitted_position desc"
    # Without the states, which are most of a row and not in the index.
    found = await pool.fetch(
        f"select job_id from (select job_id, submitted_position, name_folded {newest} limit {MOST_SEARCHED}) looked "
        f"where strpos(name_folded, ${len(arguments) + 1}) > 0 "
        f"order by submitted_position desc limit ${len(arguments) + 2}",
        *arguments,
        part,
        size + 1,
    )
    rows = await pool.fetch(
        "select state from scheduler.jobs where job_id = any($1::text[]) order by submitted_position desc",
        [row["job_id"] for row in found],
    )
    jobs = [load(row["state"], Job) for row in rows]
    if len(jobs) > size:
        return Page(jobs[:size], jobs[size - 1].position)
    beyond: int | None = await pool.fetchval(
        f"select submitted_position {newest} offset {MOST_SEARCHED} limit 1", *arguments
    )
    return Page(jobs, beyond + 1 if beyond is not None else 0)


def _where(workspace_id: str, wanted: Wanted, before: int) -> tuple[str, list[Any]]:
    """The conditions that are asked for and no others, so that the plan is made for them."""
    conditions: list[str] = []
    arguments: list[Any] = []

    def add(condition: str, argument: Any) -> None:
        arguments.append(argument)
        conditions.append(condition.format(f"${len(arguments)}"))

    if workspace_id:
        add("workspace_id = {}", workspace_id)
    if len(wanted.states) == 1:
        add("state_code = {}", wanted.states[0])
    elif wanted.states:
        add("state_code = any({}::int[])", list(wanted.states))
    if _ID.fullmatch(wanted.search):
        add("job_id = {}", wanted.search)
    if wanted.runner_id:
        # The second half is the condition of the index.
        add("last_runner_id = {} and last_runner_id <> ''", wanted.runner_id)
    if wanted.dataset_id:
        add("dataset_id = {}", wanted.dataset_id)
    if wanted.architecture_id:
        add("architecture_id = {}", wanted.architecture_id)
    if wanted.workflow_id:
        add("workflow_id = {} and workflow_id <> ''", wanted.workflow_id)
    if wanted.submitted_by:
        add("submitted_by = {}", wanted.submitted_by)
    if before:
        add("submitted_position < {}", before)
    return (f"where {' and '.join(conditions)}" if conditions else ""), arguments


async def complete(pool: Pool) -> int:
    """Called at the start: make the columns right of rows that versions without them have written; how many they were.

    A row that such a version changed but did not make is looked for among the jobs that are not over: there are few.
    """
    completed = 0
    while True:
        rows = await pool.fetch(
            "select job_id, version, state from scheduler.jobs where dataset_id is null "
            # The older column, which all versions write, differs where the newer is wrong, and for some others.
            "union all select job_id, version, state from scheduler.jobs "
            "where state_code <= 4 and dataset_id is not null and runner_id <> last_runner_id "
            "and coalesce(state::json ->> 'runner_id', '') <> last_runner_id limit $1",
            _AT_ONCE,
        )
        if not rows:
            return completed
        made = [columns(load(row["state"], Job)) for row in rows]
        names = list(made[0])
        await pool.execute(
            f"update scheduler.jobs set {', '.join(f'{name} = told.{name}' for name in names)} "
            f"from unnest($1::text[], $2::bigint[], {', '.join(f'${n + 3}::text[]' for n in range(len(names)))}) "
            f"told (job_id, version, {', '.join(names)}) "
            "where jobs.job_id = told.job_id and jobs.version = told.version",
            [row["job_id"] for row in rows],
            [row["version"] for row in rows],
            *([one[name] for one in made] for name in names),
        )
        completed += len(rows)
