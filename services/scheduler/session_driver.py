"""Carries out what the sessions' state machine orders: commits it, and feeds back what became of it."""

import asyncio
from collections.abc import Iterable

import structlog

from protos.scheduler.v1 import session_pb2 as pb
from services.clock import Clock
from services.eventlog.append import Conflict, LogUnavailable
from services.postgres import LOST
from services.rpc.shell import Shell
from services.scheduler.actions import Actions
from services.scheduler.directives import Directives
from services.scheduler.domain import stream
from services.scheduler.domain.refusals import StaleReport
from services.scheduler.domain.runner import Runner
from services.scheduler.lease import Lease
from services.scheduler.queries import Queries
from services.scheduler.sessions import Session, Sessions
from services.scheduler.store import Store

_log = structlog.get_logger()

HEARTBEAT_INTERVAL_MS = 5_000
_TICK_S = 1.0
# Sessions that end in the same moment, committed together; the appender batches them.
_ENDS_AT_ONCE = 256
# How often sessions are looked for that the log knows and no stream belongs to.
_STRAYS_EACH = 15


class SessionDriver:
    def __init__(
        self,
        actions: Actions,
        store: Store,
        queries: Queries,
        sessions: Sessions,
        directives: Directives,
        clock: Clock,
        lease: Lease,
        shell: Shell,
        replica: str,
        ingest_address: str,
    ) -> None:
        self._actions, self._store, self._queries, self._sessions = actions, store, queries, sessions
        self._directives, self._clock, self._lease, self._shell = directives, clock, lease, shell
        self._replica, self._ingest_address = replica, ingest_address

    def hear(self, session: Session, message: pb.ConnectRequest) -> list[stream.Action]:
        """What to `carry_out` of a message that was read; the reader flushes the session before."""
        return self._sessions.hear(session, stream.Heard(message, self._lease.valid))

    async def half_closed(self, session: Session) -> None:
        runner = await self._store.runner(session.runner_id)
        await self.take(session, stream.HalfClosed(training=runner is not None and bool(runner.attempt_id)))

    async def take(self, session: Session, item: stream.Input) -> None:
        """Feed one input and see to what follows. Raises what a commit raises."""
        await self.carry_out(session, self._sessions.feed(session, item))

    async def carry_out(self, session: Session, actions: Iterable[stream.Action]) -> None:
        """Commit what the state machine orders, in order. Raises what a commit raises."""
        for action in actions:
            match action:
                case stream.Connect(hello):
                    epoch = await self._actions.connect(session.runner_id, hello)
                    runner = await self._store.runner(session.runner_id)
                    assert runner is not None  # it has just connected
                    newest = runner.epoch == epoch
                    connected = stream.Connected(self._welcome(session, runner, epoch), self._lease.valid, newest)
                    await self.take(session, connected)
                case stream.Enter():
                    _log.info("a runner connected", runner_id=session.runner_id, epoch=session.state.epoch)
                    await self._directives.state(session)
                case stream.Commit(report):
                    await self._report(session, report)
                case stream.Suspend(state):
                    await self._actions.box_suspensions(session.runner_id, session.state.epoch, state)
                case stream.Disconnect(epoch, last_contact_ms, reason):
                    await self._actions.disconnect(session.runner_id, epoch, last_contact_ms, reason)
                    await self.take(session, stream.Left())

    def _welcome(self, session: Session, runner: Runner, epoch: int) -> pb.Welcome:
        return pb.Welcome(
            runner_id=runner.runner_id,
            runner_name=runner.name,
            workspace_id=runner.workspace_id,
            epoch=epoch,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            platform_at_ms=self._clock.now_ms(),
            # The gateway that a box came through leads to the metrics service too; another address may not be reached.
            ingest_address="" if session.through_gateway else self._ingest_address,
        )

    async def _report(self, session: Session, report: pb.Report) -> None:
        rejected = ""
        try:
            await self._actions.report(session.runner_id, report)
        except StaleReport as stale:
            _log.warning("a report is rejected", runner_id=session.runner_id, attempt_id=report.attempt_id[:100])
            rejected = str(stale)
        await self.take(session, stream.Settled(report.attempt_id, report.sequence, rejected))

    # ---- as time passes

    async def watch(self) -> None:
        """End sessions that are silent for 15 s or whose key is refused by now, until cancelled."""
        rounds = 0
        while True:
            self._sessions.cut_off_unread()
            ending = []
            now_ms = self._clock.now_ms()
            for session in self._sessions.all():
                if not self._shell.still_valid(session.principal, now_ms):
                    self._sessions.feed(session, stream.KeyRefused())
                if stream.due(session.state, now_ms):
                    ending.append(session)
            for start in range(0, len(ending), _ENDS_AT_ONCE):
                await asyncio.gather(*map(self._tick, ending[start : start + _ENDS_AT_ONCE]))
            if rounds % _STRAYS_EACH == 0:
                await self._end_strays()
            rounds += 1
            await asyncio.sleep(_TICK_S)

    async def _tick(self, session: Session) -> None:
        try:
            await self.take(session, stream.Tick())
        except (*LOST, LogUnavailable, Conflict) as error:
            # It is leaving, and the next tick tries again.
            _log.warning("the end of a session is not committed yet", runner_id=session.runner_id, error=str(error))

    async def _end_strays(self) -> None:
        """Sessions that this process has committed and nobody holds: the stream broke before the commit was known."""
        try:
            for runner in await self._queries.connected_here(self._replica, self._sessions.runner_ids()):
                # Its box may have come back meanwhile: here, which is seen, or elsewhere, with another epoch.
                if runner.runner_id not in self._sessions.runner_ids():
                    reason = "the session was lost while it was opened"
                    await self._actions.disconnect(runner.runner_id, runner.epoch, runner.last_contact_at_ms, reason)
        except (*LOST, LogUnavailable, Conflict) as error:
            _log.warning("strays are looked for again", error=str(error))
