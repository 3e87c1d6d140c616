"""Lists over the scheduler's read models, always within one workspace."""

from collections.abc import Iterable

from protos.scheduler.v1.job_pb2 import JobState
from services.postgres import Pool
from services.scheduler.domain.job import Job
from services.scheduler.domain.runner import Runner
from services.scheduler.job_lists import Page, Wanted, page_of
from services.scheduler.serde import load


class Queries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def runners(self, workspace_id: str) -> list[Runner]:
        """By name; uninstalled ones are gone. An empty workspace id means all (the operator's)."""
        rows = await self._pool.fetch(
            "select state from scheduler.runners "
            "where ($1 = '' or workspace_id = $1) and not uninstalled order by name",
            workspace_id,
        )
        return [load(row["state"], Runner) for row in rows]

    async def runner_id(self, workspace_id: str, name_or_id: str) -> str | None:
        """The id of the runner with this id or name."""
        found: str | None = await self._pool.fetchval(
            "select runner_id from scheduler.runners where ($1 = '' or workspace_id = $1) "
            "and (runner_id = $2 or (name = $2 and not uninstalled)) order by (runner_id = $2) desc limit 1",
            workspace_id,
            name_or_id,
        )
        return found

    async def runners_ever(self, workspace_id: str, name_or_id: str = "") -> list[str]:
        """Ids of the runners that there are or were, by name; with `name_or_id` those with this id or name."""
        rows = await self._pool.fetch(
            "select runner_id from scheduler.runners where ($1 = '' or workspace_id = $1) "
            "and ($2 = '' or runner_id = $2 or name = $2) order by name",
            workspace_id,
            name_or_id,
        )
        return [row["runner_id"] for row in rows]

    async def orphans(self, replica: str) -> list[Runner]:
        """Runners whose session is held by a scheduler process that is gone."""
        rows = await self._pool.fetch(
            "select r.state from scheduler.runners r left join scheduler.replicas p using (replica) "
            "where r.connected and r.replica <> $1 and (p.expires_at is null or p.expires_at < clock_timestamp())",
            replica,
        )
        return [load(row["state"], Runner) for row in rows]

    async def connected_here(self, replica: str, known: Iterable[str]) -> list[Runner]:
        """Runners whose session this process has committed, other than the known ones."""
        rows = await self._pool.fetch(
            "select state from scheduler.runners where connected and replica = $1 and not runner_id = any($2::text[])",
            replica,
            list(known),
        )
        return [load(row["state"], Runner) for row in rows]

    async def replica_expiry_ms(self, replica: str) -> int | None:
        """When the lease of a scheduler process ends or ended, platform time."""
        found: int | None = await self._pool.fetchval(
            "select (extract(epoch from expires_at) * 1000)::bigint from scheduler.replicas where replica = $1", replica
        )
        return found

    async def suspensions_over(self, now_ms: int) -> list[str]:
        """Runners of which a suspension has ended by itself."""
        rows = await self._pool.fetch(
            "select runner_id from scheduler.runners where suspended_until_ms > 0 and suspended_until_ms <= $1", now_ms
        )
        return [row["runner_id"] for row in rows]

    async def jobs(self, workspace_id: str, wanted: Wanted, before_position: int, size: int) -> Page:
        """Newest first, those submitted before a position (zero: all)."""
        return await page_of(self._pool, workspace_id, wanted, before_position, size)

    async def queued(self, limit: int) -> list[Job]:
        """Waiting jobs of all workspaces: those that are tried again, then the others by their submission."""
        rows = await self._pool.fetch(
            "select state from scheduler.jobs where state_code = $1 "
            "order by waits_for_retry desc, submitted_position limit $2",
            JobState.JOB_STATE_QUEUED,
            limit,
        )
        return [load(row["state"], Job) for row in rows]

    async def queue_position(self, job: Job) -> int:
        """The job's place among the waiting ones of its workspace, from 1."""
        before: int = await self._pool.fetchval(
            "select count(*) from scheduler.jobs "
            "where state_code = $1 and workspace_id = $2 "
            "and (not waits_for_retry, submitted_position) < (not $4::boolean, $3::bigint)",
            JobState.JOB_STATE_QUEUED,
            job.workspace_id,
            job.position,
            job.waits_for_retry,
        )
        return before + 1

    async def cut_off(self) -> list[str]:
        """Jobs held by a runner that is not connected."""
        rows = await self._pool.fetch(
            "select j.job_id from scheduler.jobs j join scheduler.runners r using (runner_id) "
            "where j.state_code in (2, 3, 4) and not r.connected"
        )
        return [row["job_id"] for row in rows]

    async def workspaces_training(self) -> list[str]:
        """Workspaces with jobs that a runner holds and that nobody has asked to stop."""
        rows = await self._pool.fetch("select distinct workspace_id from scheduler.jobs where state_code in (2, 3)")
        return [row["workspace_id"] for row in rows]

    async def training(self, workspace_id: str) -> list[str]:
        """Jobs of a workspace that a runner holds and that nobody has asked to stop."""
        rows = await self._pool.fetch(
            "select job_id from scheduler.jobs where state_code in (2, 3) and workspace_id = $1", workspace_id
        )
        return [row["job_id"] for row in rows]
