"""The pure half of the appender: which rows a batch of commands writes, and what each command is answered."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.append import Append, Appended, Conflict, Request, RequestIdReused
from services.eventlog.catalogue import SCHEMA_VERSION, to_us, type_url

# Columns of the table `events`, in the order of `Batch.rows`.
COLUMNS = (
    "position",
    "event_id",
    "workspace_id",
    "stream_kind",
    "stream_id",
    "stream_version",
    "type",
    "schema_version",
    "payload",
    "recorded_at",
    "actor",
    "correlation_id",
    "causation_id",
)

StreamKey = tuple[str, str]
RequestKey = tuple[str, str]


class Waiting:
    """A command that waits for its append."""

    __slots__ = ("append", "done", "event_ids", "expires_at")

    def __init__(self, append: Append, done: "asyncio.Future[Appended]", expires_at: float) -> None:
        self.append, self.done, self.expires_at = append, done, expires_at
        # Made once, so that a commit whose acknowledgement was lost can be recognised in the log.
        self.event_ids = [uuid.uuid4() for stream in append.streams for _ in stream.events]

    def settle(self, outcome: Appended | Exception) -> None:
        if self.done.done():
            return
        if isinstance(outcome, Appended):
            self.done.set_result(outcome)
        else:
            self.done.set_exception(outcome)


class Batch:
    """Commands on their way into one transaction, given what the database holds under the lock.

    `versions` are the versions of the streams that the commands name, `answered` the stored answers to their
    requests, `committed` those of their events that a lost acknowledgement had left in the log already.
    """

    def __init__(
        self,
        head: int,
        recorded_at: datetime,
        versions: dict[StreamKey, int],
        answered: dict[RequestKey, tuple[bytes, bytes]],
        committed: dict[uuid.UUID, EventRecord],
    ) -> None:
        self.head, self.recorded_at = head, recorded_at
        self._versions, self._answered, self._committed = versions, answered, committed
        self.rows: list[tuple[Any, ...]] = []
        self.records: list[EventRecord] = []
        self.changed: dict[StreamKey, int] = {}
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
            actual = self._versions.get((stream.kind, stream.stream_id), 0)
            if stream.expected is not None and stream.expected != actual:
                return Conflict(stream.kind, stream.stream_id, stream.expected, actual)
        records = self._take(waiting)
        response = append.respond(records).SerializeToString() if append.respond is not None else b""
        if request is not None:
            self._remember(request, response)
        return Appended(self.head, records, response=response)

    def _recovered(self, waiting: Waiting) -> Appended:
        """All of a command is committed where its first event is: a transaction is never half there."""
        records = [self._committed[event_id] for event_id in waiting.event_ids]
        append = waiting.append
        self.records.extend(records)
        response = append.respond(records).SerializeToString() if append.respond is not None else b""
        return Appended(records[-1].position, records, response=response)

    def _remember(self, request: Request, response: bytes) -> None:
        self.requests.append((request.subject, request.request_id, request.content_sha256, response))
        # A second command of this batch with the same id gets this answer.
        self._answered[request.subject, request.request_id] = (request.content_sha256, response)

    def _take(self, waiting: Waiting) -> Sequence[EventRecord]:
        append = waiting.append
        recorded_at_us = to_us(self.recorded_at)
        ids = iter(waiting.event_ids)
        records: list[EventRecord] = []
        for stream in append.streams:
            key = (stream.kind, stream.stream_id)
            version = self._versions.get(key, 0)
            for event in stream.events:
                version += 1
                self.head += 1
                event_id, name, payload = next(ids), event.DESCRIPTOR.name, event.SerializeToString()
                self.rows.append(
                    (
                        self.head,
                        event_id,
                        append.workspace_id,
                        stream.kind,
                        stream.stream_id,
                        version,
                        name,
                        SCHEMA_VERSION,
                        payload,
                        self.recorded_at,
                        append.actor,
                        append.correlation_id,
                        append.causation_id,
                    )
                )
                record = EventRecord(
                    position=self.head,
                    event_id=str(event_id),
                    workspace_id=append.workspace_id,
                    stream_kind=stream.kind,
                    stream_id=stream.stream_id,
                    stream_version=version,
                    type=name,
                    schema_version=SCHEMA_VERSION,
                    recorded_at_us=recorded_at_us,
                    actor=append.actor,
                    correlation_id=append.correlation_id,
                    causation_id=append.causation_id,
                )
                record.payload.type_url = type_url(name)
                record.payload.value = payload
                records.append(record)
            self._versions[key] = self.changed[key] = version
        self.records.extend(records)
        return records
