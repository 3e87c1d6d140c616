"""Level-triggered directives: after every change, each box is told what should be so."""

import asyncio
from collections.abc import Sequence

import structlog

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.runner_pb2 import RunnerDisconnected, SuspensionOwner
from protos.scheduler.v1 import session_pb2 as pb
from services.postgres import LOST
from services.scheduler.domain.stream import Wanted
from services.scheduler.sessions import Session, Sessions
from services.scheduler.store import Store

_log = structlog.get_logger()

# Events of a runner after which its box may have something else to do.
_CHANGES = {"RunnerStatusChanged", "RunnerSuspended", "RunnerResumed"}


class Directives:
    """Tells boxes what changed. Run `push` for as long as the process serves."""

    def __init__(self, store: Store, sessions: Sessions) -> None:
        self._store, self._sessions = store, sessions
        # Runners whose directive is due; a set, so that it is bounded by the sessions.
        self._due: dict[str, None] = {}
        self._event = asyncio.Event()

    def changed(self, records: Sequence[EventRecord]) -> None:
        """Note whom the records concern; own commits and other replicas' events alike."""
        for record in records:
            if record.type in _CHANGES:
                self._note(record.stream_id)
            elif record.type == "JobKillRequested":
                self._note_job(record.stream_id)
            elif record.type == "RunnerConnected":
                self._sessions.replaced(record.stream_id, record.stream_version)
            elif record.type == "RunnerDisconnected":
                self._sessions.ended(record.stream_id, RunnerDisconnected.FromString(record.payload.value).epoch)

    def _note(self, runner_id: str) -> None:
        if self._sessions.of(runner_id) is not None:
            self._due[runner_id] = None
            self._event.set()

    def _note_job(self, job_id: str) -> None:
        self._due[job_id] = None
        self._event.set()

    async def push(self) -> None:
        """Send due directives until cancelled."""
        while True:
            await self._event.wait()
            self._event.clear()
            due, self._due = list(self._due), {}
            for thing in due:
                try:
                    await self._tell(thing)
                except LOST as error:
                    # The box is told again when it connects, and it will: PostgreSQL's absence is nobody's end.
                    _log.warning("a directive waits for PostgreSQL", of=thing, error=str(error))
                    self._due[thing] = None
                    self._event.set()
                    await asyncio.sleep(0.2)

    async def _tell(self, thing: str) -> None:
        runner_id = thing
        if thing.startswith("jb_"):
            job = await self._store.job(thing)
            runner_id = job.runner_id if job is not None else ""
        session = self._sessions.of(runner_id)
        if session is not None:
            await self.state(session)

    async def state(self, session: Session) -> None:
        """Tell one box what should be so."""
        runner = await self._store.runner(session.runner_id)
        if runner is None:
            return
        admin = SuspensionOwner.SUSPENSION_OWNER_ADMIN
        directive = pb.Directive(suspended_by_admin=any(s.owner == admin for s in runner.suspensions))
        job = await self._store.job(runner.job_id) if runner.job_id else None
        if job is not None and job.attempt_id == runner.attempt_id:
            directive.attempt.CopyFrom(
                pb.Assignment(
                    attempt_id=job.attempt_id,
                    job_id=job.job_id,
                    spec=job.spec,
                    window_ms=job.window_ms,
                    stop_reason=job.kill_reason,
                    stop_message=job.kill_message,
                )
            )
        self._sessions.feed(session, Wanted(directive))
