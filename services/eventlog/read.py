"""Reading the log from PostgreSQL, in position order."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.catalogue import COLUMNS, EventRow, to_us
from services.postgres import Connection, Pool

PAGE = 1000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The end of the year 9999, the last that Python's calendar has.
_LAST_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Head:
    """The last position of the log, zero where it is empty, and when it was recorded."""

    position: int
    recorded_at_us: int
    log_id: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Empty fields do not filter."""

    workspace_id: str = ""
    types: Sequence[str] = ()
    stream_kind: str = ""
    stream_id: str = ""

    def matches(self, record: EventRecord) -> bool:
        return (
            (not self.workspace_id or record.workspace_id == self.workspace_id)
            and (not self.types or record.type in self.types)
            and (not self.stream_kind or record.stream_kind == self.stream_kind)
            and (not self.stream_id or record.stream_id == self.stream_id)
        )


EVERYTHING = Filter()


async def read_head(pool: Pool) -> Head:
    """Raises asyncpg's connection errors."""
    row = await pool.fetchrow(
        "select position, recorded_at, log_id::text from eventlog.log "
        "left join lateral (select position, recorded_at from eventlog.events order by position desc limit 1) e on true"
    )
    assert row is not None  # the table `log` has one row
    if row["position"] is None:
        return Head(0, 0, row["log_id"])
    return Head(row["position"], to_us(row["recorded_at"]), row["log_id"])


async def position_at(pool: Connection | Pool, at_ms: int) -> int:
    """The last position recorded in the Unix millisecond `at_ms` or earlier; zero where there is none.

    `position_at(pool, from_ms - 1) + 1` is the first position recorded at `from_ms` or later. Halves the log until one
    position is left, each step one look-up by primary key: right because `recorded_at` never goes backwards in it.
    """
    found: int = await pool.fetchval(
        # The answer is `low` or after it, and not after `high`.
        "with recursive search (low, high) as ("
        "select coalesce(min(position) - 1, 0), coalesce(max(position), 0) from eventlog.events "
        "union all "
        "select case when known then middle else low end, case when known then high else middle - 1 end "
        "from search, lateral (select (low + high + 1) / 2 as middle) halves, "
        "lateral (select recorded_at < $1 as known from eventlog.events where position = middle) event "
        "where low < high"
        ") select low from search where low = high",
        _after_ms(at_ms),
    )
    return found


async def recorded_at_ms(pool: Connection | Pool, position: int) -> int:
    """When the event at a position of the log was recorded, Unix milliseconds."""
    recorded_at: datetime = await pool.fetchval("select recorded_at from eventlog.events where position = $1", position)
    return to_us(recorded_at) // 1000


def _after_ms(at_ms: int) -> datetime:
    """The start of the next millisecond: stamps in the log are finer. What no calendar knows is its nearest day."""
    return _EPOCH + timedelta(milliseconds=min(max(at_ms + 1, 0), _LAST_MS))


async def read_page(
    connection: Connection | Pool, first: int, last: int, matching: Filter = EVERYTHING, limit: int = PAGE
) -> list[EventRecord]:
    """At most `limit` records with first ≤ position ≤ last that match, in position order."""
    rows = await connection.fetch(
        f"select {COLUMNS} from eventlog.events where position between $1 and $2 "
        "and ($3 = '' or workspace_id = $3) and (cardinality($4::text[]) = 0 or type = any($4)) "
        "and ($5 = '' or stream_kind = $5) and ($6 = '' or stream_id = $6) order by position limit $7",
        first,
        last,
        matching.workspace_id,
        list(matching.types),
        matching.stream_kind,
        matching.stream_id,
        limit,
    )
    return [EventRow(*row).record() for row in rows]


async def read_range(
    pool: Pool, first: int, last: int, matching: Filter = EVERYTHING, limit: int = PAGE
) -> AsyncIterator[list[EventRecord]]:
    """Pages of records with first ≤ position ≤ last, in position order, none of them empty."""
    while first <= last:
        page = await read_page(pool, first, last, matching, limit)
        if page:
            yield page
        if len(page) < limit:
            return
        first = page[-1].position + 1


async def read_stream(
    connection: Connection | Pool, kind: str, stream_id: str, after_version: int = 0
) -> list[EventRecord]:
    """The events of one stream that follow `after_version`, in order."""
    rows = await connection.fetch(
        f"select {COLUMNS} from eventlog.events where stream_id = $1 and stream_version > $2 and stream_kind = $3 "
        "order by stream_version",
        stream_id,
        after_version,
        kind,
    )
    return [EventRow(*row).record() for row in rows]
