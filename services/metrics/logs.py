"""Reads log lines from PostgreSQL: in order, numbered without a hole within each attempt, all or those that match."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from protos.metrics.v1 import metrics_pb2
from services.metrics.log_search import Range, Search, lines_of
from services.postgres import Connection, Pool, Record

# Chunks of a few hundred kilobytes each.
_FETCH_ROWS = 8

Lines = list[metrics_pb2.StoredLogLine]


@dataclass(frozen=True, slots=True)
class LogSpool:
    """The log of one attempt, of which `lines` are stored; `before` lines are those of the attempts before it."""

    spool_id: int
    attempt_id: str
    lines: int
    before: int


async def log_spools(connection: Connection | Pool, job_id: str) -> list[LogSpool]:
    """The logs of a job, in the order of its attempts."""
    rows = await connection.fetch(
        "select spool_id, attempt_id, lines from metrics.spools where job_id = $1 and lines > 0 "
        "order by assigned_position, spool_id",
        job_id,
    )
    spools: list[LogSpool] = []
    before = 0
    for row in rows:
        spools.append(LogSpool(row["spool_id"], row["attempt_id"], row["lines"], before))
        before += row["lines"]
    return spools


def starts(spools: Sequence[LogSpool], skip: int) -> dict[int, int]:
    """Spool id → lines of it that come before line `skip` + 1, counted over all of them."""
    return {spool.spool_id: min(max(skip - spool.before, 0), spool.lines) for spool in spools}


async def start_of_tail(pool: Pool, spools: Sequence[LogSpool], tail: int, search: Search) -> int:
    """How many lines, counted over all attempts, come before the last `tail` ones that match; zero for fewer.

    It walks from the end, so that a long history before the last matches costs nothing.
    """
    total = spools[-1].before + spools[-1].lines if spools else 0
    if not search.text:
        return max(total - tail, 0)
    for spool in reversed(spools):
        up_to = spool.lines
        while up_to > 0:
            rows = await pool.fetch(
                "select last_line, lines, records from metrics.log_chunks "
                "where spool_id = $1 and last_line <= $2 order by last_line desc limit $3",
                spool.spool_id,
                # A chunk may have been merged with later ones since the spool was read.
                await _end_of(pool, spool.spool_id, up_to),
                _FETCH_ROWS,
            )
            if not rows:
                break
            runs = await asyncio.to_thread(_matches, spool, rows[::-1], Range(0, up_to), search)
            found = [line for run in runs for line in run]
            if len(found) >= tail:
                return int(found[-tail].line) - 1
            tail -= len(found)
            up_to = rows[-1]["last_line"] - rows[-1]["lines"]
    return 0


async def _end_of(pool: Pool, spool_id: int, line: int) -> int:
    """The last line of the chunk that holds a line."""
    found: int | None = await pool.fetchval(
        "select min(last_line) from metrics.log_chunks where spool_id = $1 and last_line >= $2", spool_id, line
    )
    return line if found is None else found


async def lines_after(pool: Pool, spool: LogSpool, after_line: int, up_to: int, search: Search) -> AsyncIterator[Lines]:
    """Lines after_line + 1 … up_to of one attempt that match, in runs that fit a response, none of them empty."""
    while after_line < up_to:
        rows = await pool.fetch(
            "select last_line, lines, records from metrics.log_chunks where spool_id = $1 and last_line > $2 "
            "order by last_line limit $3",
            spool.spool_id,
            after_line,
            _FETCH_ROWS,
        )
        wanted = Range(after_line, up_to)
        if search.text:
            # What is passed over may be much, and must not hold up the others.
            runs = await asyncio.to_thread(_matches, spool, rows, wanted, search)
        else:
            runs = _matches(spool, rows, wanted, search)
        for run in runs:
            yield run
        if not rows:
            return
        after_line = rows[-1]["last_line"]


def _matches(spool: LogSpool, rows: Sequence[Record], wanted: Range, search: Search) -> list[Lines]:
    """By chunk; chunks without a match are left out."""
    runs = [
        [
            metrics_pb2.StoredLogLine(
                sequence=number,
                at_ms=record.at_ms,
                text=record.log_line.text,
                error=record.log_line.error,
                attempt_id=spool.attempt_id,
                line=spool.before + number,
            )
            for number, record in lines_of(row["records"], row["last_line"] - row["lines"] + 1, wanted, search)
        ]
        for row in rows
    ]
    return [run for run in runs if run]
