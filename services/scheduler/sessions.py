"""Live sessions of this process: what was heard of whom and when, and what each box should do."""

import asyncio
from dataclasses import dataclass, field

import structlog

from protos.scheduler.v1 import session_pb2 as pb
from services.clock import Clock
from services.rpc.credentials import Principal
from services.scheduler.domain.session import SILENCE_MS

_log = structlog.get_logger()

# Messages that may wait for a box that does not read; a fuller queue ends the session, and the next one starts afresh.
_MAX_WAITING = 256


@dataclass(slots=True, eq=False)
class Session:
    """One stream. `outgoing` is written by one task; None ends it."""

    runner_id: str
    principal: Principal
    epoch: int
    heard_at_ms: int
    outgoing: "asyncio.Queue[pb.ConnectResponse | None]" = field(default_factory=lambda: asyncio.Queue(_MAX_WAITING))
    # Set where the stream has ended or should end: silence is counted from then on until 15 s are over.
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    checks: dict[str, "asyncio.Future[pb.DatasetChecked]"] = field(default_factory=dict)

    def send(self, message: pb.ConnectResponse) -> None:
        """Queue a message; a box that reads nothing is cut off."""
        try:
            self.outgoing.put_nowait(message)
        except asyncio.QueueFull:
            _log.warning("a session is closed: its box does not read", runner_id=self.runner_id)
            self.end()

    def end(self) -> None:
        """Nothing more is said or heard."""
        if not self.closed.is_set():
            self.closed.set()
            if not self.outgoing.full():
                self.outgoing.put_nowait(None)

    def close(self, reason: str, reconnect: bool) -> None:
        """Say goodbye and end the stream."""
        if not self.closed.is_set():
            self.send(pb.ConnectResponse(goodbye=pb.Goodbye(reason=reason, reconnect=reconnect)))
            self.end()


class Sessions:
    """At most one session a runner; a newer one closes the older."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def add(self, session: Session) -> None:
        older = self._sessions.get(session.runner_id)
        if older is not None and older.epoch > session.epoch:
            session.close("a newer session of this runner is open", reconnect=False)
            return
        if older is not None:
            older.close("this box has opened a newer session", reconnect=False)
        self._sessions[session.runner_id] = session

    def of(self, runner_id: str) -> Session | None:
        """The runner's session, if its stream is open here."""
        session = self._sessions.get(runner_id)
        return session if session is not None and not session.closed.is_set() else None

    def heard_at_ms(self, runner_id: str) -> int:
        """When the runner was heard last by this process; zero: never."""
        session = self._sessions.get(runner_id)
        return session.heard_at_ms if session is not None else 0

    def replaced(self, runner_id: str, epoch: int) -> None:
        """Another replica has opened a newer session."""
        session = self._sessions.get(runner_id)
        if session is not None and session.epoch < epoch:
            del self._sessions[runner_id]
            session.close("this box has opened a newer session", reconnect=False)

    def silent(self) -> list[Session]:
        """Sessions without a heartbeat for 15 s."""
        now_ms = self._clock.now_ms()
        return [session for session in self._sessions.values() if now_ms - session.heard_at_ms > SILENCE_MS]

    def all(self) -> list[Session]:
        return list(self._sessions.values())

    def remove(self, session: Session) -> None:
        """Forget a session that is over."""
        if self._sessions.get(session.runner_id) is session:
            del self._sessions[session.runner_id]

    def close_all(self, reason: str) -> None:
        """This process stops: the boxes come back to another, or to its successor."""
        for session in self._sessions.values():
            session.close(reason, reconnect=True)
