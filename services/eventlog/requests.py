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


async def first_answer(connection: Connection, request: Request) -> bytes | None:
    """As `answered`, in a transaction: it waits for a request under way with the same id, and others wait for it."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 7301))", request.subject, request.request_id
    )
    return await answered(connection, request)


async def keep_answer(connection: Connection, request: Request, answer: bytes) -> None:
    """In the transaction that does what was asked for."""
    await connection.execute(
        "insert into eventlog.requests (subject, request_id, request_hash, response) values ($1, $2, $3, $4)",
        request.subject,
        request.request_id,
        request.content_sha256,
        answer,
    )
