"""A large log, made at once: a fleet's history, written by COPY under the rules of the log's tables."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import Message

from protos.events.v1 import job_pb2, workspace_pb2
from services.eventlog.appender import take_append_lock
from services.eventlog.batch import StreamKey
from services.eventlog.catalogue import SCHEMA_VERSION, EventRow
from services.ids import sha256
from services.postgres import connect
from tests.support.fleet_history import HOUR_MS, MEAN_CYCLE_MS, Step, fleet_history

WORKSPACE = "ws_bulk"
# An admin's.
TOKEN = "tt_of_the_bulk_log"

_JOBS_PER_BOX = 500
_EVENTS_PER_JOB = 10
_ROWS_AT_ONCE = 50_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(slots=True)
class BulkLog:
    """What was written: positions 1 to `head`, without a hole."""

    head: int = 0
    jobs: int = 0
    # Moments of the first and the last event.
    first_ms: int = 0
    last_ms: int = 0
    # Events by type.
    types: dict[str, int] = field(default_factory=dict)


async def write_bulk_log(url: str, events: int, end_ms: int, seed: int = 1) -> BulkLog:
    """Fill an empty log with exactly that many events, recorded in the three months before `end_ms`.

    One workspace with one admin's token, TOKEN; one box for each 5,000 events; what runs at the end goes on. Positions
    are contiguous, `recorded_at` never goes backwards, `streams` holds each stream's version, partitions are made by
    the log's own function: as if an appender had written it. All of it is committed at once, or nothing. `url` is that
    of the role eventlog.
    """
    rows = _Rows(seed, events, end_ms)
    connection = await connect(url, "bulk log")
    try:
        async with connection.transaction():
            await take_append_lock(connection)
            assert not await connection.fetchval("select max(position) from eventlog.events"), "the log is not empty"
            for first in range(0, events, _ROWS_AT_ONCE):
                last = min(first + _ROWS_AT_ONCE, events)
                await connection.execute("select eventlog.ensure_partition($1)", last)
                await connection.copy_records_to_table(
                    "events",
                    schema_name="eventlog",
                    columns=EventRow._fields,
                    records=itertools.islice(rows, last - first),
                )
            await connection.copy_records_to_table(
                "streams",
                schema_name="eventlog",
                columns=("kind", "id", "version"),
                records=[(kind, stream_id, version) for (kind, stream_id), version in rows.versions.items()],
                timeout=120,
            )
        # As autovacuum would have by now.
        await connection.execute("analyze eventlog.events")
        await connection.execute("analyze eventlog.streams")
    finally:
        await connection.close()
    return rows.log


class _Rows(Iterator[tuple[Any, ...]]):
    """The rows of `events`, in the order of EventRow, without end."""

    def __init__(self, seed: int, events: int, end_ms: int) -> None:
        self.log = BulkLog()
        self.versions: dict[StreamKey, int] = {}
        boxes = max(events // (_JOBS_PER_BOX * _EVENTS_PER_JOB), 4)
        # Two days to spare: chance may make a history longer than the mean.
        span_ms = events // _EVENTS_PER_JOB * MEAN_CYCLE_MS // boxes + 48 * HOUR_MS
        self._end_ms = end_ms
        self._random = Random(seed)
        self._killed_at: dict[str, int] = {}
        self._rows = self._all(seed, boxes, end_ms - span_ms)

    def __next__(self) -> tuple[Any, ...]:
        return next(self._rows)

    def _all(self, seed: int, boxes: int, start_ms: int) -> Iterator[tuple[Any, ...]]:
        for at_ms, actor, events in itertools.chain([_founding(start_ms)], fleet_history(seed, boxes, start_ms)):
            self.log.last_ms = at_ms = min(at_ms, self._end_ms)
            self.log.first_ms = self.log.first_ms or at_ms
            recorded_at = _EPOCH + at_ms * _MILLISECOND
            correlation_id = self._random.randbytes(8).hex()
            for kind, stream_id, event in events:
                yield self._row(kind, stream_id, event, recorded_at, actor, correlation_id)

    def _row(
        self, kind: str, stream_id: str, event: Message, recorded_at: datetime, actor: str, correlation_id: str
    ) -> tuple[Any, ...]:
        log, key, name = self.log, (kind, stream_id), event.DESCRIPTOR.name
        log.head += 1
        log.types[name] = log.types.get(name, 0) + 1
        if isinstance(event, job_pb2.JobSubmitted):
            log.jobs += 1
        elif isinstance(event, job_pb2.JobKilled):
            self._killed_at[stream_id] = log.head
        elif isinstance(event, job_pb2.JobOutcomeCorrected):
            event.corrects_position = self._killed_at[stream_id]
        self.versions[key] = version = self.versions.get(key, 0) + 1
        return (
            log.head,
            UUID(self._random.randbytes(16)),
            WORKSPACE,
            kind,
            stream_id,
            version,
            name,
            SCHEMA_VERSION,
            event.SerializeToString(),
            recorded_at,
            actor,
            correlation_id,
            "",
        )


def _founding(at_ms: int) -> Step:
    token = workspace_pb2.TokenCreated(token_id="tok_bulk", role=workspace_pb2.ROLE_ADMIN, token_sha256=sha256(TOKEN))
    events = (workspace_pb2.WorkspaceCreated(name="bulk"), token, workspace_pb2.QuotaSet(quota_milliminutes=10**12))
    return at_ms, "operator", [("workspace", WORKSPACE, event) for event in events]
