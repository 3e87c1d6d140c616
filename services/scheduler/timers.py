"""What the scheduler does as time passes: orphaned sessions, lost trainings, the queue, exhausted workspaces."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.clock import Clock
from services.eventlog.append import Conflict, LogUnavailable
from services.postgres import LOST, Connection
from services.scheduler.actions import Actions
from services.scheduler.artifacts import Artifacts
from services.scheduler.contacts import Contacts, last_contact_ms
from services.scheduler.domain.placement import matches
from services.scheduler.domain.refusals import QuotaUsedUp
from services.scheduler.job_api import period_of
from services.scheduler.queries import Queries
from services.scheduler.store import Store

_log = structlog.get_logger()

_INTERVAL_S = 1.0
# Events come in thousands when a fleet comes back: they are looked at together.
_BREATH_S = 0.05
# Sessions ended together; the appender batches them.
_ENDS_AT_ONCE = 256
# Trainings stopped together where a workspace's minutes are used up: each second of each is charged.
_STOPS_AT_ONCE = 256
# Waiting jobs looked at in one round; the rest comes in the next.
_QUEUE_ROUND = 1000
# After these somebody may be placed, or stopped.
_WAKING = {
    "RunnerStatusChanged",
    "RunnerConnected",
    "JobSubmitted",
    "JobKilled",
    "QuotaExhausted",
    "QuotaReplenished",
    "QuotaSet",
}


class Timers:
    def __init__(
        self,
        actions: Actions,
        store: Store,
        artifacts: Artifacts,
        queries: Queries,
        contacts: Contacts,
        clock: Clock,
        replica: str,
        lease_ms: int,
    ) -> None:
        self._actions, self._store, self._artifacts = actions, store, artifacts
        self._queries, self._contacts = queries, contacts
        self._clock, self._replica, self._lease_ms = clock, replica, lease_ms
        self._wake = asyncio.Event()

    def changed(self, records: Sequence[EventRecord]) -> None:
        """Look at the queue at once where it may have moved."""
        for record in records:
            if record.type in _WAKING:
                self._wake.set()

    async def lead(self, connection: Connection) -> None:
        """What one process does for all, under its leadership."""
        while True:
            # Raises where the connection is lost, and the leadership with it.
            await connection.fetchval("select 1")
            await _patiently("exhausted", self._stop_exhausted)
            await _patiently("orphans", self._end_orphans)
            await _patiently("lost", self._declare_lost)
            await _patiently("suspensions", self._lift_suspensions)
            await _patiently("queue", self._place_queued)
            try:
                async with asyncio.timeout(_INTERVAL_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(_BREATH_S)
            self._wake.clear()

    async def _end_orphans(self) -> None:
        """Sessions of scheduler processes that are gone: heard last at their lease's end, at the latest."""
        orphans = await self._queries.orphans(self._replica)
        contacts = await self._contacts.of([runner.runner_id for runner in orphans]) if orphans else {}
        expired_at_ms = {one: await self._queries.replica_expiry_ms(one) for one in {r.replica for r in orphans}}
        now_ms, reason = self._clock.now_ms(), "the scheduler that held the session is gone"
        ends = []
        for runner in orphans:
            contact, expired = contacts.get(runner.runner_id), expired_at_ms[runner.replica]
            heard_ms = last_contact_ms(runner, contact, expired, self._lease_ms, now_ms)
            # The epoch as it was looked up: a box that has come back meanwhile has a session of another one.
            ends.append(partial(self._actions.disconnect, runner.runner_id, runner.epoch, heard_ms, reason))
        for start in range(0, len(ends), _ENDS_AT_ONCE):
            await asyncio.gather(*(_patiently("orphan", end) for end in ends[start : start + _ENDS_AT_ONCE]))

    async def _declare_lost(self) -> None:
        for job_id in await self._queries.cut_off():
            await self._actions.declare_lost(job_id)

    async def _lift_suspensions(self) -> None:
        for runner_id in await self._queries.suspensions_over(self._clock.now_ms()):
            await self._actions.lift_expired(runner_id)

    async def _stop_exhausted(self) -> None:
        """Asked anew each round: a workspace that was used up while nobody looked is seen all the same."""
        period = period_of(self._clock.now_ms())
        for workspace_id in await self._queries.workspaces_training():
            workspace = await self._store.workspace(workspace_id)
            if workspace is None or workspace.used_up(period) is None:
                continue
            stops = [
                partial(self._actions.stop_exhausted, one, period) for one in await self._queries.training(workspace_id)
            ]
            for start in range(0, len(stops), _STOPS_AT_ONCE):
                await asyncio.gather(*(_patiently("stop", stop) for stop in stops[start : start + _STOPS_AT_ONCE]))

    async def _place_queued(self) -> None:
        """First in, first out for each runner: an older job is offered every free runner before a younger one."""
        queued = await self._queries.queued(_QUEUE_ROUND)
        if not queued:
            return
        now_ms = self._clock.now_ms()
        free = {}
        known: set[str] = set()
        for workspace_id in {job.workspace_id for job in queued}:
            found = await self._queries.runners(workspace_id)
            known.update(runner.runner_id for runner in found)
            free[workspace_id] = [runner for runner in found if runner.placeable]
        for job in queued:
            wanted = job.wanted_runner_id
            if job.queue_expires_at_ms <= now_ms or (wanted and wanted not in known):
                await self._actions.expire(job.job_id)
                continue
            lacks = await self._artifacts.lacks(job)
            for runner in free[job.workspace_id]:
                if matches(runner, job, lacks):
                    try:
                        await self._actions.place(job.job_id, runner.runner_id, period_of(now_ms))
                    except QuotaUsedUp:
                        # Its other jobs wait as well.
                        free[job.workspace_id] = []
                        break
                    free[job.workspace_id].remove(runner)
                    break


async def _patiently(what: str, act: Callable[[], Awaitable[object]]) -> bool:
    """Act now, or in the next round where the database or another writer is in the way."""
    try:
        await act()
    except (*LOST, LogUnavailable, Conflict) as error:
        _log.warning("a timer tries again", what=what, error=str(error))
        return False
    return True
