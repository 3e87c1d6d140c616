"""The event log for component tests: tables in a fresh database, and an appender on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from protos.events.v1.workspace_pb2 import WorkspaceCreated
from services.clock import PlatformClock
from services.eventlog.append import Append, StreamAppend
from services.eventlog.appender import Appender, OnCommit
from services.eventlog.bootstrap import MIGRATIONS
from services.migrations import migrate
from services.postgres import Pool, open_pool
from tests.support.platform import DatabaseUrls


async def create_log(database: DatabaseUrls) -> None:
    """Make the event log's tables."""
    connection = await asyncpg.connect(database.eventlog)
    try:
        await migrate(connection, "eventlog", MIGRATIONS)
    finally:
        await connection.close()


@asynccontextmanager
async def appender_on(url: str, on_commit: OnCommit | None = None) -> AsyncIterator[Appender]:
    appender = Appender(url, "test", PlatformClock(), on_commit=on_commit)
    appender.start()
    try:
        yield appender
    finally:
        await appender.stop()


@asynccontextmanager
async def pool_on(url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(url, "test")
    try:
        yield pool
    finally:
        pool.terminate()


def created(stream_id: str, expected: int | None = None, name: str = "one", events: int = 1) -> Append:
    """An append of `events` events to one workspace's stream."""
    stream = StreamAppend("workspace", stream_id, expected, [WorkspaceCreated(name=name)] * events)
    return Append("ws_test", [stream], actor="service:test")
