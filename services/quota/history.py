"""What the read model knew at an earlier position.

Totals have a history, one row a change. An attempt whose facts all lie at or before the position is as it was then;
the few others, those that ran at it or were corrected after it, are folded again from their jobs' streams.
"""

from collections.abc import Sequence

from services.eventlog.catalogue import COLUMNS, EventRow
from services.postgres import Connection, Record
from services.quota.domain.attempt import Attempt, evolve, unknown
from services.quota.domain.ledger import ATTEMPT_EVENTS
from services.quota.domain.spans import nodes_above
from services.quota.rows import attempt_of
from services.quota.store import RUNNING, Usage


async def read_usage_as_of(connection: Connection, workspace_id: str, period: str, position: int) -> Usage:
    """The month as it was known at the position. One look-up, and as many streams as attempts ran then and have
    changed since."""
    row = await connection.fetchrow(
        "select charged_ms_micros as settled, adjusted_ms_micros as adjusted from quota.usage_history "
        "where workspace_id = $1 and period = $2 and position <= $3 order by position desc limit 1",
        workspace_id,
        period,
        position,
    )
    settled, adjusted = (int(row["settled"]), int(row["adjusted"])) if row is not None else (0, 0)
    quota: int | None = await connection.fetchval(
        "select quota_milliminutes from quota.quota_history "
        "where workspace_id = $1 and position <= $2 order by position desc limit 1",
        workspace_id,
        position,
    )
    # Two statements, because one with `or` would look through all attempts.
    rows = await connection.fetch(
        f"select * from quota.attempts where workspace_id = $1 and {RUNNING} and started_position <= $2 union all "
        "select * from quota.attempts where workspace_id = $1 and span_node = any($3::bigint[]) "
        "and started_position <= $2 and ended_position > $2",
        workspace_id,
        position,
        nodes_above(position),
    )
    running = [attempt for attempt in await attempts_as_of(connection, rows, position) if attempt is not None]
    return Usage(position, quota, settled + adjusted, adjusted, running)


async def attempts_as_of(connection: Connection, rows: Sequence[Record], position: int) -> list[Attempt | None]:
    """The attempts of rows of `attempts` as they were at the position, in the order of the rows; None for one of
    which nothing was known."""
    later = {row["attempt_id"]: row["job_id"] for row in rows if _changed_after(row, position)}
    folded = await _fold(connection, later, position) if later else {}
    return [folded.get(row["attempt_id"]) if row["attempt_id"] in later else attempt_of(row) for row in rows]


def _changed_after(row: Record, position: int) -> bool:
    last = max(row["assigned_position"], row["started_position"], row["link_position"], row["outcome_position"])
    return bool(last > position)


async def _fold(connection: Connection, wanted: dict[str, str], position: int) -> dict[str, Attempt]:
    """Attempts by id from the streams of their jobs; `wanted` is attempt id → job id."""
    rows = await connection.fetch(
        f"select {COLUMNS} from eventlog.events where stream_id = any($1::text[]) and stream_kind = 'job' "
        "and position <= $2 and type = any($3::text[]) order by position",
        list(set(wanted.values())),
        position,
        list(ATTEMPT_EVENTS),
    )
    found: dict[str, Attempt] = {}
    for row in rows:
        stored = EventRow(*row)
        event = ATTEMPT_EVENTS[stored.type].FromString(stored.payload)
        if event.attempt_id in wanted:
            known = found.get(event.attempt_id) or unknown(stored.workspace_id, stored.stream_id)
            found[event.attempt_id] = evolve(known, event, stored.position)
    return found
