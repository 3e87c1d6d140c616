"""Open streams of this process: each a state machine with what waits to be said on it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import structlog

from protos.scheduler.v1 import session_pb2 as pb
from services.clock import Clock
from services.rpc.credentials import Principal
from services.rpc.errors import InvalidField, Unavailable
from services.scheduler.domain import stream

_log = structlog.get_logger()

# Messages that may wait for a box that does not read; with more than that its session ends, and the next starts afresh.
_MAX_WAITING = 256
# A box that has not taken a message by then is not there.
_WRITE_TIMEOUT_S = 20


# Writes one message to the box; grpc allows one such call at a time.
Write: TypeAlias = Callable[[pb.ConnectResponse], Awaitable[None]]


class Session:
    """One stream. Whoever reads it writes the answers; what comes of other causes is written by `serve`."""

    __slots__ = (
        "_hung_up",
        "_waiter",
        "_waiting",
        "_writing",
        "checks",
        "principal",
        "refusal",
        "runner_id",
        "served_by",
        "state",
        "stuck",
        "through_gateway",
    )

    def __init__(self, principal: Principal, now_ms: int, through_gateway: bool) -> None:
        self.runner_id, self.principal = principal.subject_id, principal
        self.through_gateway = through_gateway
        self.state = stream.opened(now_ms)
        # Why the stream ends with an error.
        self.refusal: Exception | None = None
        # Who waits for an answer of the box, by the id of the question.
        self.checks: dict[str, asyncio.Future[pb.DatasetChecked]] = {}
        # Who writes, to be interrupted where the box does not read.
        self.served_by: asyncio.Task[None] | None = None
        # Looks of `cut_off_unread` that found the same message not gone out; -1: none is being written.
        self.stuck = -1
        self._waiting: list[pb.ConnectResponse] = []
        self._waiter: asyncio.Future[None] | None = None
        self._writing = False
        self._hung_up = False

    @property
    def live(self) -> bool:
        return self.state.phase is stream.Phase.LIVE

    def say(self, message: pb.ConnectResponse) -> bool:
        """Have it written by the next `flush`; False where too much waits already."""
        if self._hung_up or len(self._waiting) >= _MAX_WAITING:
            return self._hung_up
        self._waiting.append(message)
        return True

    def hang_up(self) -> None:
        """End the stream when all is said."""
        self._hung_up = True
        self.wake()

    def wake(self) -> None:
        """Let `serve` see to what waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def serve(self, write: Write) -> None:
        """Write what others have to say, until the stream is to end and all is said."""
        while True:
            await self.flush(write)
            if self._writing or not self._hung_up:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            elif not self._waiting:
                return

    async def flush(self, write: Write) -> None:
        """Write what waits; where somebody writes already, he goes on with it."""
        if self._writing:
            return
        self._writing = True
        try:
            while self._waiting:
                self.stuck = 0
                await write(self._waiting.pop(0))
                self.stuck = -1
        finally:
            self._writing = False
            if self._hung_up:
                self.wake()


class Sessions:
    """All streams of this process, and of each runner the one that counts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: set[Session] = set()
        self._of: dict[str, Session] = {}

    def open(self, principal: Principal, through_gateway: bool = False) -> Session:
        session = Session(principal, self._clock.now_ms(), through_gateway)
        self._open.add(session)
        return session

    def feed(self, session: Session, item: stream.Input) -> list[stream.Action]:
        """Apply one input and carry out what concerns the stream itself; returns what has to be committed or told."""
        rest = self.hear(session, item)
        session.wake()
        return rest

    def hear(self, session: Session, item: stream.Input) -> list[stream.Action]:
        """`feed` for the one who reads the stream: he flushes it himself, which spares a change of tasks."""
        session.state, actions = stream.step(session.state, item, self._clock.now_ms())
        rest: list[stream.Action] = []
        for action in actions:
            match action:
                case stream.Say(message):
                    if not session.say(message):
                        _log.warning("a session is closed: its box does not read", runner_id=session.runner_id)
                        self.feed(session, stream.Broken())
                case stream.Hangup():
                    session.hang_up()
                case stream.Refuse(field, value, rule):
                    session.refusal = InvalidField(field, value, rule)
                case stream.Postpone():
                    session.refusal = Unavailable("this scheduler can promise nothing at the moment; connect again")
                case stream.Answer(checked):
                    waiting = session.checks.pop(checked.check_id, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(checked)
                case stream.Forget():
                    self._forget(session)
                case stream.Enter():
                    self._enter(session)
                    rest.append(action)
                case _:
                    rest.append(action)
        return rest

    def _enter(self, session: Session) -> None:
        older = self._of.get(session.runner_id)
        if older is not None and older.state.epoch > session.state.epoch:
            self.feed(session, stream.Replaced(older.state.epoch))
            return
        self._of[session.runner_id] = session
        if older is not None:
            self.feed(older, stream.Replaced(session.state.epoch))

    def _forget(self, session: Session) -> None:
        self._open.discard(session)
        if self._of.get(session.runner_id) is session:
            del self._of[session.runner_id]

    def of(self, runner_id: str) -> Session | None:
        """The runner's session, if its stream is open here."""
        session = self._of.get(runner_id)
        return session if session is not None and session.live else None

    def heard_at_ms(self, runner_id: str) -> int:
        """When the runner was heard last by this process; zero: never."""
        session = self._of.get(runner_id)
        return session.state.heard_at_ms if session is not None else 0

    def replaced(self, runner_id: str, epoch: int) -> None:
        """A session of this epoch was opened, here or at another replica."""
        session = self._of.get(runner_id)
        if session is not None:
            self.feed(session, stream.Replaced(epoch))

    def ended(self, runner_id: str, epoch: int) -> None:
        """The log says that the session of this epoch is over."""
        session = self._of.get(runner_id)
        if session is not None:
            self.feed(session, stream.Ended(epoch))

    def cut_off_unread(self) -> None:
        """Called once a second: ends the streams of boxes that have not taken a message in time."""
        for session in self._open:
            if session.stuck < 0:
                continue
            session.stuck += 1
            if session.stuck > _WRITE_TIMEOUT_S and session.served_by is not None:
                _log.warning("a session is closed: its box does not read", runner_id=session.runner_id)
                session.stuck = -1
                session.served_by.cancel()

    def all(self) -> list[Session]:
        return list(self._open)

    def runner_ids(self) -> Iterable[str]:
        """Runners of which a session is open here or being opened."""
        return {session.runner_id for session in self._open}

    def drain(self, reason: str) -> None:
        """This process stops: the boxes come back to another, or to its successor."""
        for session in self.all():
            self.feed(session, stream.Draining(reason))
