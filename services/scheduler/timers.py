"""What the scheduler does as time passes: silent sessions, lost trainings, the queue, exhausted workspaces."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.workspace_pb2 import QuotaExhausted
from protos.training.v1.training_pb2 import EndReason
from services.clock import Clock
from services.eventlog.append import Conflict, LogUnavailable
from services.eventlog.catalogue import payload_of
from services.postgres import LOST, Connection, Pool
from services.rpc.shell import Shell
from services.scheduler.actions import Actions
from services.scheduler.domain.placement import matches
from services.scheduler.domain.refusals import JobIsOver, QuotaUsedUp
from services.scheduler.job_api import period_of
from services.scheduler.queries import Queries
from services.scheduler.sessions import Sessions
from services.scheduler.store import Store

_log = structlog.get_logger()

_INTERVAL_S = 1.0
# Waiting jobs looked at in one round; the rest comes in the next.
_QUEUE_ROUND = 1000
# After these somebody may be placed, or stopped.
_WAKING = {"RunnerStatusChanged", "RunnerConnected", "JobSubmitted", "JobKilled", "QuotaExhausted", "QuotaSet"}


class Timers:
    def __init__(
        self,
        pool: Pool,
        actions: Actions,
        store: Store,
        queries: Queries,
        sessions: Sessions,
        clock: Clock,
        replica: str,
        shell: Shell,
        lease_ms: int,
    ) -> None:
        self._pool, self._actions, self._store, self._queries = pool, actions, store, queries
        self._sessions, self._clock, self._replica, self._shell = sessions, clock, replica, shell
        self._lease_s = lease_ms / 1000
        self._wake = asyncio.Event()
        self._exhausted: set[str] = set()

    def changed(self, records: Sequence[EventRecord]) -> None:
        """Look at the queue at once where it may have moved."""
        for record in records:
            if record.type in _WAKING:
                self._wake.set()
            if record.type == "QuotaExhausted":
                event = payload_of(record)
                if isinstance(event, QuotaExhausted) and event.period == period_of(self._clock.now_ms()):
                    self._exhausted.add(record.workspace_id)

    async def keep_lease(self) -> None:
        """Tell the other replicas that this process lives, until cancelled."""
        while True:
            await _patiently("lease", self._renew)
            await asyncio.sleep(self._lease_s / 3)

    async def _renew(self) -> None:
        await self._pool.execute(
            "insert into scheduler.replicas (replica, expires_at) "
            "values ($1, clock_timestamp() + make_interval(secs => $2)) "
            "on conflict (replica) do update set expires_at = excluded.expires_at",
            self._replica,
            self._lease_s,
        )
        await self._pool.execute(
            "delete from scheduler.replicas p where expires_at < clock_timestamp() - interval '1 hour' "
            "and not exists (select from scheduler.runners r where r.replica = p.replica and r.connected)"
        )

    async def watch_sessions(self) -> None:
        """End sessions of this process that are silent for 15 s or whose key is refused by now, until cancelled."""
        while True:
            for session in self._sessions.all():
                if not self._shell.still_valid(session.principal):
                    session.close("the runner's secret key was withdrawn; see `tether-runner reauth`", reconnect=False)
            for session in self._sessions.silent():
                reason = "no heartbeat for 15 s"
                session.close(reason, reconnect=True)
                ended = await _patiently(
                    "session",
                    lambda s=session: self._actions.disconnect(
                        s.runner_id, s.epoch, s.heard_at_ms, "no heartbeat for 15 s"
                    ),  # type: ignore[misc]
                )
                if ended:
                    self._sessions.remove(session)
            await asyncio.sleep(_INTERVAL_S)

    async def lead(self, _connection: Connection) -> None:
        """What one process does for all, under its leadership."""
        while True:
            await self._connection_alive(_connection)
            await _patiently("orphans", self._end_orphans)
            await _patiently("lost", self._declare_lost)
            await _patiently("suspensions", self._lift_suspensions)
            await _patiently("exhausted", self._stop_exhausted)
            await _patiently("queue", self._place_queued)
            try:
                async with asyncio.timeout(_INTERVAL_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def _connection_alive(self, connection: Connection) -> None:
        """Raises where the leadership's connection is lost, and with it the leadership."""
        await connection.fetchval("select 1")

    async def _end_orphans(self) -> None:
        """Sessions of scheduler processes that are gone: heard last at their lease's end, at the latest."""
        for runner_id in await self._queries.connected_elsewhere(self._replica):
            runner = await self._store.runner(runner_id)
            if runner is None or not runner.connected:
                self._store.forget("runner", runner_id)
                continue
            expired_at_ms = await self._queries.replica_expiry_ms(runner.replica)
            last_contact_ms = expired_at_ms or runner.last_contact_at_ms
            reason = "the scheduler that held the session is gone"
            await self._actions.disconnect(runner_id, runner.epoch, last_contact_ms, reason)

    async def _declare_lost(self) -> None:
        for job_id in await self._queries.cut_off():
            await self._actions.declare_lost(job_id)

    async def _lift_suspensions(self) -> None:
        for runner_id in await self._queries.suspensions_over(self._clock.now_ms()):
            await self._actions.lift_expired(runner_id)

    async def _stop_exhausted(self) -> None:
        exhausted, self._exhausted = self._exhausted, set()
        for workspace_id in exhausted:
            workspace = await self._store.workspace(workspace_id)
            gone = workspace.exhaustion if workspace is not None else None
            if gone is None:
                continue
            message = f"the {gone.quota_milliminutes / 1000:.1f} compute minutes of {gone.period} are used up"
            for job_id in await self._queries.held(workspace_id):
                try:
                    await self._actions.stop(job_id, EndReason.END_REASON_QUOTA_EXHAUSTED, message)
                except JobIsOver:
                    continue

    async def _place_queued(self) -> None:
        """First in, first out for each runner: an older job is offered every free runner before a younger one."""
        queued = await self._queries.queued(_QUEUE_ROUND)
        if not queued:
            return
        now_ms = self._clock.now_ms()
        free = {}
        for workspace_id in {job.workspace_id for job in queued}:
            found = await self._queries.runners(workspace_id)
            free[workspace_id] = [runner for runner in found if runner.placeable]
        for job in queued:
            if job.queue_expires_at_ms <= now_ms:
                await self._actions.expire(job.job_id)
                continue
            for runner in free[job.workspace_id]:
                if matches(runner, job):
                    try:
                        await self._actions.place(job.job_id, runner.runner_id, period_of(now_ms))
                    except QuotaUsedUp:
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
