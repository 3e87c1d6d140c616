"""A PostgreSQL of its own for measuring, set up as `tether up` sets it up."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.database import SERVICES, create_database, create_roles
from deploy.local.ports import free_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.supervised import Supervised
from tests.support.log import create_log
from tests.support.loop_thread import LoopThread
from tests.support.platform import DatabaseUrls, password


@contextmanager
def fresh_log(folder: Path) -> Iterator[DatabaseUrls]:
    """A database with the event log's tables, until the end of the block."""
    loop = LoopThread()
    cluster = EmbeddedPostgres(folder / "cluster", free_port(), "password-of-postgres")
    server = Supervised(loop.call(cluster.prepare()), folder / "postgres.log")
    loop.call(server.start())
    try:
        loop.call(create_database(cluster.url("postgres"), "bench"))
        loop.call(create_roles(cluster.url("bench"), {service: password(service) for service in SERVICES}))
        urls = {service: cluster.url("bench", f"tether_{service}", password(service)) for service in SERVICES}
        database = DatabaseUrls(name="bench", admin=cluster.url("bench"), **urls)
        asyncio.run(create_log(database))
        yield database
    finally:
        loop.call(server.stop())
        loop.close()
