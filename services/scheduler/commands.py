"""The one command handler: load, decide, append, and again where another was faster."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.append import Append, Appended, Conflict, Request, StreamAppend
from services.eventlog.appender import Appender
from services.eventlog.requests import answered
from services.postgres import Pool
from services.rpc.requests import identity_of
from services.rpc.shell import caller, correlation_id
from services.scheduler.store import Store

# A conflict means that another command got through, so this many in a row means more traffic than one runner can have.
_MAX_TRIES = 20

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command decided: events for streams, each after the version that was loaded."""

    workspace_id: str
    streams: Sequence[StreamAppend]
    # For a command that nobody called: what it follows from.
    correlation_id: str = ""
    # Streams that get no event and must still be at the version that was loaded: what was decided depends on them.
    unchanged: Sequence[StreamAppend] = ()

    @property
    def empty(self) -> bool:
        return all(not stream.events for stream in self.streams)


class Commands:
    def __init__(self, pool: Pool, store: Store, appender: Appender) -> None:
        self._pool, self._store, self._appender = pool, store, appender

    async def run(
        self, actor: str, decide: Callable[[], Awaitable[Decision]], correlation: str = ""
    ) -> Appended | None:
        """Append what `decide` says; it loads through the store and is called again after a conflict.

        Returns None where it decided nothing. Raises what `decide` raises, LogUnavailable, Conflict after many tries.
        """
        return await self._run(actor, decide, correlation, None, None)

    async def answer(
        self,
        request: Message,
        request_id: str,
        answer_type: type[Answer],
        decide: Callable[[], Awaitable[Decision]],
        respond: Callable[[Sequence[EventRecord]], Answer],
        actor: str = "",
    ) -> tuple[Answer, bool]:
        """Run a caller's mutating request once: a repeat of its id gets the first answer.

        `respond` makes the answer from the appended records and must hold no secret. `actor`: where it is not the
        caller's subject. Returns the answer and whether it is a repeat. Raises RequestIdReused where the id was used
        for another content.
        """
        identity = identity_of(request, request_id)
        if identity is not None and (stored := await answered(self._pool, identity)) is not None:
            return answer_type.FromString(stored), True
        done = await self._run(actor or caller().subject, decide, correlation_id(), identity, respond)
        if done is None:
            return respond([]), False
        if done.repeated is not None:
            return answer_type.FromString(done.repeated), True
        return answer_type.FromString(done.response or b""), False

    async def _run(
        self,
        actor: str,
        decide: Callable[[], Awaitable[Decision]],
        correlation: str,
        identity: Request | None,
        respond: Callable[[Sequence[EventRecord]], Message] | None,
    ) -> Appended | None:
        for attempt in range(_MAX_TRIES):
            decision = await decide()
            if decision.empty:
                return None
            streams = [*(stream for stream in decision.streams if stream.events), *decision.unchanged]
            cause = correlation or decision.correlation_id
            append = Append(decision.workspace_id, streams, actor, cause, request=identity, respond=respond)
            try:
                return await self._appender.append(append)
            except Conflict as conflict:
                self._store.forget(conflict.kind, conflict.stream_id)
                if attempt == _MAX_TRIES - 1:
                    raise
        raise AssertionError("the last try returns or raises")
