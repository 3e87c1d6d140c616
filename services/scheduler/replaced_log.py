"""What the scheduler forgets when the log was restored: facts beside the log that belong to another time."""

import structlog

from services.postgres import Pool

_log = structlog.get_logger()


async def notice_replaced_log(pool: Pool) -> bool:
    """Called before the process takes its lease. True where the log has another id than the last time.

    Leases and last contacts of the backup's time are forgotten: sessions that were live then count from now, so that
    a training which still runs on its box has the whole window to come back. The charge of one that does not is
    presumed, and corrected when its box speaks.
    """
    async with pool.acquire() as connection, connection.transaction():
        # Several processes may start at once; the first one does it.
        await connection.execute("lock table scheduler.log in exclusive mode")
        log_id = await connection.fetchval("select log_id from eventlog.log")
        known = await connection.fetchval("select log_id from scheduler.log")
        if known == log_id:
            return False
        await connection.execute("delete from scheduler.log")
        await connection.execute("insert into scheduler.log (log_id) values ($1)", log_id)
        if known is None:
            return False
        await connection.execute("delete from scheduler.replicas")
        await connection.execute("delete from scheduler.contacts")
    _log.warning("the log was replaced: live sessions count from now", was=str(known), now=str(log_id))
    return True
