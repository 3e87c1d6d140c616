"""Compares what breakdowns, explanations and answers about the past are made of with the log.

Rows are compared by digests: the sum over the rows of the first 60 bits of the MD5 of each one's text, which is the
same in whatever order they come. Totals of a breakdown need no comparison of their own: they are computed from these
rows and from those that `verify` compares, and add up by construction.
"""

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.quota.v1.quota_pb2 import ChargeDifference
from services.eventlog.catalogue import COLUMNS as EVENT_COLUMNS
from services.eventlog.catalogue import EventRow
from services.postgres import Connection
from services.quota.charges import adjusted_of, job_of
from services.quota.domain.ledger import ATTEMPT_EVENTS
from services.quota.rows import COLUMNS, NOTHING, row_of
from services.quota.settle import Fold

_TYPES = (*ATTEMPT_EVENTS, "JobSubmitted")
_PAGE = 5000
# PostgreSQL sorts a workspace's events by their jobs before it hands out the first.
_SORT_TIMEOUT_S = 900
_FIRST_BITS = "('x' || substr(md5({}), 1, 15))::bit(60)::bigint"

_EVENTS = f"""
select {EVENT_COLUMNS} from eventlog.events
where workspace_id = $1 and stream_kind = 'job' and type = any($2::text[]) and position <= $3
and ($4 = '' or stream_id = $4) order by stream_id collate "C", position
"""
# Row texts as SQL makes them; `_facts` makes the same.
_FACTS = f"""
select job_id, sum({_FIRST_BITS.format("told")}) as digest from (
    select job_id, concat_ws('|', position, name, person, workflow, workflow_name) as told from quota.jobs
    where workspace_id = $1 and ($2 = '' or job_id = $2)
    union all select job_id, concat_ws('|', {", ".join(f"coalesce({column}::text, '')" for column in COLUMNS)})
    from quota.attempts where workspace_id = $1 and ($2 = '' or job_id = $2)
    union all select a.job_id, concat_ws('|', l.attempt_id, l.position, l.cut_off::text, l.ms)
    from quota.links l join quota.attempts a using (attempt_id) where workspace_id = $1 and ($2 = '' or job_id = $2)
) rows group by job_id order by job_id collate "C"
"""
# Each row less the one before it: what its event changed.
_HISTORY = f"""
select period, sum({_FIRST_BITS.format("concat_ws('|', position, charged, adjusted)")}) as digest from (
    select period, position,
        charged_ms_micros - coalesce(lag(charged_ms_micros) over month, 0) as charged,
        adjusted_ms_micros - coalesce(lag(adjusted_ms_micros) over month, 0) as adjusted
    from quota.usage_history where workspace_id = $1 window month as (partition by period order by position)
) changes group by period
"""


async def compare_tables(
    connection: Connection, workspace_id: str, job_id: str, last: int, most: int
) -> list[ChargeDifference]:
    """Replay the events up to `last`, the read model's position, and compare; with `job_id` only that job's facts.

    In the caller's transaction. One job's state at a time is in memory. At most `most` jobs, and as many months.
    """
    history: dict[str, int] = defaultdict(int)
    differences: list[ChargeDifference] = []
    recorded = _recorded(connection, workspace_id, job_id)
    known = await anext(recorded, None)
    async for replayed_id, records in _jobs(connection, workspace_id, job_id, last):
        digest = _facts(records, history)
        while known is not None and known[0].encode() < replayed_id.encode():
            _differs(differences, known[0], most)
            known = await anext(recorded, None)
        if known is not None and known[0] == replayed_id:
            if digest != known[1]:
                _differs(differences, replayed_id, most)
            known = await anext(recorded, None)
        elif digest:
            _differs(differences, replayed_id, most)
    while known is not None:
        _differs(differences, known[0], most)
        known = await anext(recorded, None)
    return differences if job_id else differences + await _compare_history(connection, workspace_id, last, history)


def _differs(differences: list[ChargeDifference], job_id: str, most: int) -> None:
    if len(differences) < most:
        differences.append(ChargeDifference(job_id=job_id, what="facts"))


async def _compare_history(
    connection: Connection, workspace_id: str, last: int, replayed: dict[str, int]
) -> list[ChargeDifference]:
    rows = await connection.fetch(
        f"select {EVENT_COLUMNS} from eventlog.events where stream_id = $1 and stream_kind = 'workspace' "
        "and type = 'MinutesAdjusted' and position <= $2",
        workspace_id,
        last,
    )
    for row in rows:
        adjusted = adjusted_of(EventRow(*row).record())
        if adjusted.ms_micros:
            replayed[adjusted.period] += _digest((adjusted.position, 0, adjusted.ms_micros))
    recorded = {row["period"]: int(row["digest"]) for row in await connection.fetch(_HISTORY, workspace_id)}
    return [
        ChargeDifference(period=period, what="history")
        for period in sorted(recorded.keys() | replayed.keys())
        if recorded.get(period, 0) != replayed.get(period, 0)
    ]


async def _recorded(connection: Connection, workspace_id: str, job_id: str) -> AsyncIterator[tuple[str, int]]:
    """Digests of what the tables hold, in the order of the jobs' ids."""
    cursor = await connection.cursor(_FACTS, workspace_id, job_id, timeout=_SORT_TIMEOUT_S)
    while rows := await cursor.fetch(_PAGE, timeout=_SORT_TIMEOUT_S):
        for row in rows:
            yield row["job_id"], int(row["digest"])


async def _jobs(
    connection: Connection, workspace_id: str, job_id: str, last: int
) -> AsyncIterator[tuple[str, list[EventRecord]]]:
    """The jobs' events, in the order of the jobs' ids."""
    cursor = await connection.cursor(_EVENTS, workspace_id, list(_TYPES), last, job_id, timeout=_SORT_TIMEOUT_S)
    records: list[EventRecord] = []
    while rows := await cursor.fetch(_PAGE, timeout=_SORT_TIMEOUT_S):
        for row in rows:
            record = EventRow(*row).record()
            if records and records[0].stream_id != record.stream_id:
                yield records[0].stream_id, records
                records = []
            records.append(record)
    if records:
        yield records[0].stream_id, records


def _facts(records: Sequence[EventRecord], history: dict[str, int]) -> int:
    """The digest of one job's rows; adds those of the changes of months to `history`."""
    fold, job = Fold({}, {}, {}), ""
    for record in records:
        if record.type == "JobSubmitted":
            # All but the workspace, which is in the statement.
            job = _text(job_of(record)[1:])
            continue
        event = ATTEMPT_EVENTS[record.type].FromString(record.payload.value)
        if event.attempt_id:
            job = job or _text((record.position, "", "", "", ""))
            fold.take(record, event)
    for change in fold.changes:
        history[change.period] += _digest((change.position, change.charged, change.adjusted))
    digest = _first_bits(job) if job else 0
    for attempt_id, attempt in fold.attempts.items():
        digest += _digest(row_of(attempt_id, attempt, fold.beside.get(attempt_id, NOTHING)))
    return digest + sum(_digest((attempt_id, *link)) for attempt_id, link in fold.links)


def _digest(row: Sequence[object]) -> int:
    return _first_bits(_text(row))


def _text(row: Sequence[object]) -> str:
    """As `concat_ws('|', …)` writes it."""
    return "|".join(_sql(value) for value in row)


def _sql(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _first_bits(text: str) -> int:
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:15], 16)
