"""The pure half of the appender: which rows a batch of commands writes, and what each command is answered."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from asyncpg.pgproto.pgproto import UUID

from services.eventlog.append import Append, Appended, Conflict, Request, RequestIdReused
from services.eventlog.catalogue import SCHEMA_VERSION, EventRow

StreamKey = tuple[str, str]
RequestKey = tuple[str, str]


def _random_bytes(size: int, chunk: int = 256) -> Iterator[bytes]:
    """Random bytes, `size` at a time; the system is asked once a chunk."""
    while True:
        drawn = os.urandom(size * chunk)
        for start in range(0, len(drawn), size):
            yield drawn[start : start + size]


_random_ids = _random_bytes(16)


class Waiting:
    """A command that waits for its append."""

    __slots__ = ("append", "done", "event_ids", "expires_at")

    def __init__(self, append: Append, done: "asyncio.Future[Appended]", expires_at: float) -> None:
        self.append, self.done, self.expires_at = append, done, expires_at
        # Made once, so that a commit whose acknowledgement was lost can be recognised in the log.
        self.event_ids = [UUID(next(_random_ids)) for stream in append.streams for _ in stream.events]

    def settle(self, outcome: Appended | Exception) -> None:
        if self.done.done():
            return
        if isinstance(outcome, Appended):
            self.done.set_result(outcome)
        else:
            self.done.set_exception(outcome)


class Batch:
    """Commands on their way into one transaction, given what the database holds under the lock.

    `versions` are the versions of streams as far as they were read; a stream that was not is taken to be at the version
    that its command expects, and the write finds out. `answered` the stored answers to their
    requests, `committed` those of their events that a lost acknowledgement had left in the log already.
    """

    def __init__(
        self,
        head: int,
        recorded_at: datetime,
        versions: dict[StreamKey, int],
        answered: dict[RequestKey, tuple[bytes, bytes]],
        committed: dict[uuid.UUID, EventRow],
    ) -> None:
        self.head, self.recorded_at = head, recorded_at
        self._versions, self._answered, self._committed = versions, answered, committed
        # In the order of EventRow; plain tuples, because most are written and never looked at.
        self.rows: list[tuple[Any, ...]] = []
        # Rows of commands whose commit was not heard the first time.
        self.recovered: list[EventRow] = []
        # Streams with new events: the version before the batch, and after it.
        self.changed: dict[StreamKey, tuple[int, int]] = {}
        self.requests: list[tuple[str, str, bytes, bytes]] = []
        self.outcomes: list[tuple[Waiting, Appended | Exception]] = []

    def add(self, waiting: Waiting) -> None:
        """Decide one command: its events are taken into the batch, or it is answered or refused without any."""
        self.outcomes.append((waiting, self._outcome(waiting)))

    def _outcome(self, waiting: Waiting) -> Appended | Exception:
        append = waiting.append
        if waiting.event_ids and waiting.event_ids[0] in self._committed:
            return self._recovered(waiting)
        if (request := append.request) is not None:
            stored = self._answered.get((request.subject, request.request_id))
            if stored is not None:
                content, response = stored
                if content != request.content_sha256:
                    return RequestIdReused(request.request_id)
                return Appended(self.head, repeated=response)
        for stream in append.streams:
            actual = self._versions.get((stream.kind, stream.stream_id), stream.expected)
            if stream.expected is not None and actual is not None and stream.expected != actual:
                return Conflict(stream.kind, stream.stream_id, stream.expected, actual)
        taken = Appended(0, self._take(waiting))
        taken.position = self.head
        taken.response = append.respond(taken.records).SerializeToString() if append.respond is not None else b""
        if request is not None:
            self._remember(request, taken.response)
        return taken

    def _recovered(self, waiting: Waiting) -> Appended:
        """All of a command is committed where its first event is: a transaction is never half there."""
        rows = [self._committed[event_id] for event_id in waiting.event_ids]
        self.recovered += rows
        found = Appended(rows[-1].position, rows)
        respond = waiting.append.respond
        found.response = respond(found.records).SerializeToString() if respond is not None else b""
        return found

    def _remember(self, request: Request, response: bytes) -> None:
        self.requests.append((request.subject, request.request_id, request.content_sha256, response))
        # A second command of this batch with the same id gets this answer.
        self._answered[request.subject, request.request_id] = (request.content_sha256, response)

    def _take(self, waiting: Waiting) -> list[tuple[Any, ...]]:
        """The command's rows, with the next positions and versions."""
        append = waiting.append
        ids = iter(waiting.event_ids)
        first = len(self.rows)
        for stream in append.streams:
            key = (stream.kind, stream.stream_id)
            version = self._versions.get(key, stream.expected or 0)
            before = self.changed[key][0] if key in self.changed else version
            for event in stream.events:
                version += 1
                self.head += 1
                self.rows.append(
                    (
                        self.head,
                        next(ids),
                        append.workspace_id,
                        stream.kind,
                        stream.stream_id,
                        version,
                        event.DESCRIPTOR.name,
                        SCHEMA_VERSION,
                        event.SerializeToString(),
                        self.recorded_at,
                        append.actor,
                        append.correlation_id,
                        append.causation_id,
                    )
                )
            self._versions[key] = version
            self.changed[key] = (before, version)
        return self.rows[first:]
