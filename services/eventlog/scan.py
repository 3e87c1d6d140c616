"""Looking through the log for few events among many: pages bounded in events and bytes, statements that stay short."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from protos.eventlog.v1.eventlog_pb2 import EventRecord, ReadEventsResponse, TailEventsResponse
from services.eventlog.catalogue import to_us, type_url
from services.eventlog.read import Filter
from services.postgres import Pool, Record

# What one page holds. An event that is larger is a page of its own.
PAGE_EVENTS = 4000
PAGE_BYTES = 3 << 19
# A page may pass the bound by its last event, but not by more than this.
_MOST_BYTES = 2 << 20
# Positions that one statement looks through, so that a filter that fits nothing does not hold a snapshot for minutes.
_WINDOW = 20_000
# The envelope's usual share of a record: ids, names and the payload's type.
_ENVELOPE_BYTES = 256

# How far back the newest events of a range are looked for: a filter that fits next to nothing must not read all of it.
MOST_BACK = 200_000

# Of streams.
KINDS = ("runner", "job", "workspace")

# The running sum ends the page with the event that passes the bound. PostgreSQL knows a payload's length without
# reading it, and writes an id as text in a fraction of the time that Python takes.
_SELECT = f"""
select position, event_id::text, workspace_id, stream_kind, stream_id, stream_version, type, schema_version, payload,
       recorded_at, actor, correlation_id, causation_id, upto
from (
    select *, sum(octet_length(payload) + {_ENVELOPE_BYTES}) over (order by position) as upto
    from (
        select * from eventlog.events
        where position between $1 and $2 and {{wanted}} order by {{order}} limit {PAGE_EVENTS}
    ) matching
) measured
where upto - octet_length(payload) - {_ENVELOPE_BYTES} < {PAGE_BYTES}
order by position
"""
_FITS = (
    "($3 = '' or workspace_id = $3) and (cardinality($4::text[]) = 0 or type = any($4)) "
    "and ($5 = '' or stream_kind = $5) and ($6 = '' or stream_id = $6)"
)
_IN_WINDOW = _SELECT.format(wanted=_FITS, order="position")
# Within a stream the versions rise with the positions, and the index on them finds a stream of few events at once.
_FITS_STREAM = (
    "stream_id = $6 and stream_kind = $5 and ($3 = '' or workspace_id = $3) "
    "and (cardinality($4::text[]) = 0 or type = any($4))"
)
_OF_STREAM = _SELECT.format(wanted=_FITS_STREAM, order="stream_version")

_POSITIONS = (
    "select position from eventlog.events where position between $1 and $2 and {wanted} order by {order} limit $7"
)
_NEWEST_IN_WINDOW = _POSITIONS.format(wanted=_FITS, order="position desc")
_NEWEST_OF_STREAM = _POSITIONS.format(wanted=_FITS_STREAM, order="stream_version desc")

Response = TypeVar("Response", ReadEventsResponse, TailEventsResponse)


async def scan(
    pool: Pool, first: int, last: int, matching: Filter, response: type[Response]
) -> AsyncIterator[Response]:
    """What matches among first ≤ position ≤ last, in order. `scanned_position` rises to `last`, also where no event is.

    The next page is read while this one is used, and no connection is held in between, so a slow reader holds up
    nothing. Raises asyncpg's connection errors.
    """
    kind = await _kind(pool, matching)
    through_stream = bool(matching.stream_id and kind)
    select, window = (_OF_STREAM, last) if through_stream else (_IN_WINDOW, _WINDOW)
    chosen = (matching.workspace_id, list(matching.types), kind, matching.stream_id)

    def reading(position: int) -> "asyncio.Task[list[Record]]":
        return asyncio.ensure_future(pool.fetch(select, position, min(last, position + window - 1), *chosen))

    ahead = reading(first) if first <= last else None
    try:
        while ahead is not None:
            rows = await ahead
            full = bool(rows) and (len(rows) == PAGE_EVENTS or rows[-1]["upto"] >= PAGE_BYTES)
            scanned = rows[-1]["position"] if full else min(last, first + window - 1)
            first = scanned + 1
            ahead = reading(first) if first <= last else None
            if len(rows) > 1 and rows[-1]["upto"] > _MOST_BYTES:
                yield _page(response, rows[:-1], rows[-2]["position"])
                rows = rows[-1:]
            yield _page(response, rows, scanned)
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


async def newest_from(pool: Pool, first: int, last: int, matching: Filter, count: int) -> int:
    """Where to begin so that first ≤ position ≤ last holds the `count` newest that match, and no more.

    It looks at MOST_BACK positions at most, but for one stream at all of them: what comes out may hold fewer, and
    nothing is known then of what lies before it. Raises asyncpg's connection errors.
    """
    kind = await _kind(pool, matching)
    chosen = (matching.workspace_id, list(matching.types), kind, matching.stream_id)
    if matching.stream_id and kind:
        rows = await pool.fetch(_NEWEST_OF_STREAM, first, last, *chosen, count)
        return rows[-1]["position"] if len(rows) == count else first
    first = max(first, last - MOST_BACK + 1)
    while last >= first:
        begin = max(first, last - _WINDOW + 1)
        rows = await pool.fetch(_NEWEST_IN_WINDOW, begin, last, *chosen, count)
        count -= len(rows)
        if count == 0:
            return int(rows[-1]["position"])
        last = begin - 1
    return first


async def _kind(pool: Pool, matching: Filter) -> str:
    """The kind that is asked for; that of the stream that is asked for, where no other stream has its id."""
    if matching.stream_id and not matching.stream_kind:
        return await _only_kind(pool, matching.stream_id)
    return matching.stream_kind


async def _only_kind(pool: Pool, stream_id: str) -> str:
    """The kind of the stream that has this id; empty where none has, or several."""
    found = await pool.fetch(
        "select kind from eventlog.streams where kind = any($1::text[]) and id = $2", list(KINDS), stream_id
    )
    return str(found[0]["kind"]) if len(found) == 1 else ""


def _page(response: type[Response], rows: Sequence[Record], scanned: int) -> Response:
    page = response(scanned_position=scanned)
    add = page.events.add
    # Field by field: this is most of what reading the log costs here, and it is the fastest way.
    for position, event_id, workspace_id, kind, stream_id, version, type_, schema, payload, at, actor, *ids, _ in rows:
        record: EventRecord = add()
        record.position = position
        record.event_id = event_id
        record.workspace_id = workspace_id
        record.stream_kind = kind
        record.stream_id = stream_id
        record.stream_version = version
        record.type = type_
        record.schema_version = schema
        carried = record.payload
        carried.type_url = type_url(type_)
        carried.value = payload
        record.recorded_at_us = to_us(at)
        record.actor = actor
        record.correlation_id, record.causation_id = ids
    return page
