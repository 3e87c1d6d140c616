"""First answers to requests, for those who ask again."""

from services.eventlog.append import Request, RequestIdReused
from services.postgres import Connection, Pool


async def answered(connection: Connection | Pool, request: Request) -> bytes | None:
    """The stored answer to an earlier request with this id; None where there is none.

    Worth asking before a command decides: what it did the first time may forbid it the second time.
    Raises RequestIdReused where the id was used for another content.
    """
    row = await connection.fetchrow(
        "select request_hash, response from eventlog.requests where subject = $1 and request_id = $2",
        request.subject,
        request.request_id,
    )
    if row is None:
        return None
    if row["request_hash"] != request.content_sha256:
        raise RequestIdReused(request.request_id)
    response: bytes = row["response"]
    return response
