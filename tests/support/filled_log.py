"""A log that holds given records, and the service that serves it: as its own process, or in the test's."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import grpc

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.catalogue import EventRow
from tests.support.eventually import eventually
from tests.support.log import create_log
from tests.support.platform import DatabaseUrls
from tests.support.servers import OPERATOR_SHA256, address

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def fill(database: DatabaseUrls, records: Sequence[EventRecord]) -> None:
    """Make the log's tables and put the records into them, in position order from 1."""
    await create_log(database)
    await append_raw(database, records)


async def append_raw(database: DatabaseUrls, records: Sequence[EventRecord]) -> None:
    """Put records after those that are there, as they are: positions, versions and moments are theirs."""
    connection = await asyncpg.connect(database.eventlog)
    try:
        await connection.copy_records_to_table(
            "events", schema_name="eventlog", columns=EventRow._fields, records=map(_row, records)
        )
        versions = {(record.stream_kind, record.stream_id): record.stream_version for record in records}
        await connection.executemany(
            "insert into eventlog.streams (kind, id, version) values ($1, $2, $3) "
            "on conflict (kind, id) do update set version = excluded.version",
            [(kind, id_, version) for (kind, id_), version in versions.items()],
        )
    finally:
        await connection.close()


def numbered(records: Iterable[EventRecord]) -> list[EventRecord]:
    """The records with contiguous positions from 1, event ids and stream versions that fit."""
    versions: dict[tuple[str, str], int] = {}
    made = []
    for position, record in enumerate(records, 1):
        key = (record.stream_kind, record.stream_id)
        versions[key] = versions.get(key, 0) + 1
        record.position, record.stream_version = position, versions[key]
        record.event_id = str(uuid.UUID(int=position))
        made.append(record)
    return made


@asynccontextmanager
async def eventlog_process(database: DatabaseUrls) -> AsyncIterator[tuple[str, int]]:
    """The service eventlog as a process of its own; its address and process id."""
    listen = address()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TETHER_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.eventlog",
        env={
            **kept,
            "TETHER_POSTGRES_URL": database.eventlog,
            "TETHER_LISTEN": listen,
            "TETHER_NATS_URL": "",
            "TETHER_OPERATOR_TOKEN_SHA256": OPERATOR_SHA256,
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with grpc.aio.insecure_channel(listen) as channel:

            async def answers() -> bool:
                assert process.returncode is None, "the service has ended"
                async with asyncio.timeout(1):
                    await channel.channel_ready()
                return True

            await eventually(answers, what="the event log's server")
        yield listen, process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _row(record: EventRecord) -> tuple[object, ...]:
    return (
        record.position,
        uuid.UUID(record.event_id),
        record.workspace_id,
        record.stream_kind,
        record.stream_id,
        record.stream_version,
        record.type,
        record.schema_version,
        record.payload.value,
        _EPOCH + timedelta(microseconds=record.recorded_at_us),
        record.actor,
        record.correlation_id,
        record.causation_id,
    )
