"""Answers as of a moment: what GetRunner, ListRunners and GetJob told then, as far as the log has it."""

from collections.abc import Sequence

from protos.common.v1.moment_pb2 import Moment
from protos.scheduler.v1 import runner_pb2
from services.postgres import Pool
from services.rpc.errors import NotFound
from services.rpc.moment import AsOf, resolve
from services.scheduler.domain.job import Job
from services.scheduler.domain.placement import Rates
from services.scheduler.domain.runner import Runner
from services.scheduler.history import History
from services.scheduler.queries import Queries
from services.scheduler.snapshots import Snapshots
from services.scheduler.views import runner_view


class Past:
    """What no event tells is missing: heartbeats between events, places in the queue. Rates are those of today.

    Each answer is of one moment, however long it takes. Raises InvalidField for a moment that has not come.
    """

    def __init__(self, pool: Pool, queries: Queries, rates: Rates) -> None:
        self._pool, self._queries, self._rates = pool, queries, rates
        self._history = History(pool, Snapshots(pool))

    async def runner(self, workspace_id: str, name_or_id: str, moment: Moment) -> runner_pb2.GetRunnerResponse:
        """Raises NotFound where none was registered then; by name only those that were not uninstalled are found."""
        as_of = await resolve(self._pool, moment)
        known = await self._history.runners(await self._queries.runners_ever(workspace_id, name_or_id), as_of.position)
        found = [one for one in known if one.runner_id == name_or_id] or [one for one in known if not one.uninstalled]
        if not found:
            raise NotFound("runner", name_or_id, f"{_when(as_of)} there was none of this name or id")
        (view,) = await self._views(found[:1], as_of)
        return runner_pb2.GetRunnerResponse(runner=view, as_of_position=as_of.position, as_of_ms=as_of.at_ms)

    async def runners(self, workspace_id: str, moment: Moment) -> runner_pb2.ListRunnersResponse:
        """Those that were registered and not uninstalled, by name."""
        as_of = await resolve(self._pool, moment)
        known = await self._history.runners(await self._queries.runners_ever(workspace_id), as_of.position)
        views = await self._views([one for one in known if not one.uninstalled], as_of)
        return runner_pb2.ListRunnersResponse(runners=views, as_of_position=as_of.position, as_of_ms=as_of.at_ms)

    async def job(self, workspace_id: str, job_id: str, moment: Moment) -> tuple[Job, AsOf]:
        """Raises NotFound where it was not submitted yet."""
        as_of = await resolve(self._pool, moment)
        found = await self._history.jobs([job_id], as_of.position)
        if not found or (workspace_id and found[0].workspace_id != workspace_id):
            raise NotFound("job", job_id, f"{_when(as_of)} there was none of this id")
        return found[0], as_of

    async def _views(self, runners: Sequence[Runner], as_of: AsOf) -> list[runner_pb2.Runner]:
        held = await self._history.jobs([one.job_id for one in runners if one.job_id], as_of.position)
        jobs = {job.job_id: job for job in held}
        return [runner_view(one, jobs.get(one.job_id), self._rates, one.last_contact_at_ms) for one in runners]


def _when(as_of: AsOf) -> str:
    return f"at that moment (#{as_of.position})" if as_of.position else "before the first event of the log"
