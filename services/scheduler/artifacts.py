"""Where checkpoints lie: on the box that saved them, and on the platform where the metrics service has stored them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from protos.training.v1.training_pb2 import CheckpointReference
from services.eventlog.append import StreamAppend
from services.postgres import Pool
from services.rpc.errors import NotFound
from services.scheduler.domain import checkpoints
from services.scheduler.domain.artifact import Artifact
from services.scheduler.domain.job import Job
from services.scheduler.domain.refusals import NoCheckpoint
from services.scheduler.serde import load
from services.scheduler.store import Store

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Stored:
    """Checkpoints of one job that the platform has. `version` rises with each event of any that it ever had."""

    there: Sequence[Artifact] = ()
    version: int = 0


# By job; jobs that never had any are not in it.
OfJobs: TypeAlias = dict[str, Stored]


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint, and what must not have changed when something is decided on it."""

    reference: CheckpointReference
    unchanged: Sequence[StreamAppend]


@dataclass(frozen=True, slots=True)
class Before:
    """`lacks`: the platform had the file that the job begins with, and has it no more. `unchanged` as in Found."""

    lacks: bool
    unchanged: Sequence[StreamAppend]


class Artifacts:
    """Reads the table `artifacts`."""

    def __init__(self, pool: Pool, store: Store) -> None:
        self._pool, self._store = pool, store

    async def catch_up(self) -> None:
        """Called at the start: take in what was stored while no scheduler listened."""
        rows = await self._pool.fetch(
            "select stream.id from eventlog.streams stream left join scheduler.artifacts known "
            "on known.artifact_id = stream.id "
            "where stream.kind = 'artifact' and stream.version > coalesce(known.version, 0)"
        )
        for first in range(0, len(rows), _AT_ONCE):
            await self._store.fold_again(("artifact", row["id"]) for row in rows[first : first + _AT_ONCE])

    async def of(self, jobs: Sequence[Job]) -> OfJobs:
        """What the platform has of the jobs' checkpoints."""
        wanted = [job.job_id for job in jobs if job.checkpoints]
        if not wanted:
            return {}
        # First the versions: what changes in between is told once more, not left out.
        versions = await self._pool.fetch(
            "select job_id, sum(version)::bigint as version from scheduler.artifacts "
            "where is_checkpoint and job_id = any($1::text[]) group by job_id",
            wanted,
        )
        rows = await self._pool.fetch(
            "select job_id, state from scheduler.artifacts where is_checkpoint and there and job_id = any($1::text[])",
            wanted,
        )
        there: dict[str, list[Artifact]] = {}
        for row in rows:
            # The column is wrong where an older version has written the row since.
            if (one := load(row["state"], Artifact)).there:
                there.setdefault(row["job_id"], []).append(one)
        return {row["job_id"]: Stored(there.get(row["job_id"], ()), row["version"]) for row in versions}

    async def at(self, job: Job, position: int) -> list[Artifact]:
        """Checkpoints of the job that the platform had when the log ended there."""
        rows = await self._pool.fetch(
            "select state from scheduler.artifacts where is_checkpoint and job_id = $1", job.job_id
        )
        return [one for row in rows if (one := load(row["state"], Artifact)).there_at(position)]

    async def find(self, job: Job, name: str, *, newest: bool) -> Found:
        """The checkpoint of this name; without one the newest, or the best where there is one.

        Raises NoCheckpoint, and NotFound for a name that the job has no checkpoint of.
        """
        if not job.checkpoints:
            raise NoCheckpoint(job.job_id, job.state, job.origin.job_id if job.origin is not None else "")
        known = checkpoints.located(job, (await self.of([job])).get(job.job_id, Stored()).there)
        if name:
            chosen = next((one for one in known if one.name == name), None)
            if chosen is None:
                raise NotFound("checkpoint", name, f"see `tether jobs checkpoints {job.job_id}`")
        else:
            chosen = known[-1] if newest else checkpoints.best_or_newest(known)
        found = checkpoints.reference(job.job_id, chosen)
        lacks, unchanged = await self._look(found)
        if lacks:
            found.artifact_id = ""
        return Found(found, unchanged)

    async def lacks(self, job: Job) -> bool:
        """Whether the platform has the file no more of the checkpoint that the job is to begin with."""
        return (await self.before(job)).lacks

    async def before(self, job: Job) -> Before:
        """What the placement of a job has to know of the checkpoint that it begins with."""
        begins = checkpoints.needed(job)
        return Before(*await self._look(begins)) if begins is not None else Before(False, [])

    async def _look(self, found: CheckpointReference) -> tuple[bool, list[StreamAppend]]:
        if not found.artifact_id:
            return False, []
        artifact = await self._store.artifact(found.artifact_id)
        if artifact is None or not artifact.there:
            return True, []
        return False, [StreamAppend("artifact", artifact.artifact_id, artifact.version, [])]
