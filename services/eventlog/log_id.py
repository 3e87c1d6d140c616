"""The log's id: changed wherever the log may go on otherwise than somebody has already read it."""

from services.postgres import Connection


async def renew(connection: Connection) -> str:
    """Give the log a new id and return it: after every restore, and after the promotion of a standby.

    Whoever read the log under the old id rebuilds what he made of it: positions beyond the restored ones are given to
    other events now. Services that run notice within a second and start again.
    """
    renewed: str = await connection.fetchval(
        "update eventlog.log set log_id = gen_random_uuid() returning log_id::text"
    )
    return renewed
