"""Drops the scheduler's read models and folds them again from the first event."""

from services.eventlog.appender import take_append_lock
from services.eventlog.read import read_page
from services.postgres import Connection, Pool
from services.scheduler.store import Store


async def rebuild(connection: Connection, pool: Pool) -> int:
    """Rebuild all read models in one transaction and return the position that they know.

    Appends of every service wait meanwhile, readers see the old models until the commit. Memory does not grow with the
    log beyond the store's cache.
    """
    store, position = Store(pool), 0
    async with connection.transaction():
        await take_append_lock(connection)
        await connection.execute(
            "truncate scheduler.workspaces, scheduler.runners, scheduler.jobs, scheduler.artifacts, scheduler.snapshots"
        )
        while page := await read_page(connection, position + 1, 1 << 62):
            await store.project(connection, page)
            store.committed()
            position = page[-1].position
    return position
