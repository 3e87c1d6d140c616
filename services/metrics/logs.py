"""Reads log lines from PostgreSQL: in order, numbered without a hole within each attempt."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from protos.metrics.v1 import ingest_pb2, metrics_pb2
from services.postgres import Connection, Pool

# Chunks of a few hundred kilobytes each.
_FETCH_ROWS = 8


@dataclass(frozen=True, slots=True)
class LogSpool:
    """The log of one attempt, of which `lines` are stored."""

    spool_id: int
    attempt_id: str
    lines: int


async def log_spools(connection: Connection | Pool, job_id: str) -> list[LogSpool]:
    """The logs of a job, in the order of its attempts."""
    rows = await connection.fetch(
        "select spool_id, attempt_id, lines from metrics.spools where job_id = $1 and lines > 0 "
        "order by assigned_position, spool_id",
        job_id,
    )
    return [LogSpool(*row.values()) for row in rows]


def starts(spools: list[LogSpool], skip: int) -> dict[int, int]:
    """Spool id → lines of it that come before line `skip` + 1, counted over all of them."""
    begins = {}
    for spool in spools:
        begins[spool.spool_id] = min(skip, spool.lines)
        skip -= begins[spool.spool_id]
    return begins


async def lines_after(
    pool: Pool, spool: LogSpool, after_line: int, up_to: int
) -> AsyncIterator[list[metrics_pb2.StoredLogLine]]:
    """Lines after_line + 1 … up_to of one attempt, in runs that fit a response, none of them empty."""
    while after_line < up_to:
        rows = await pool.fetch(
            "select last_line, lines, records from metrics.log_chunks where spool_id = $1 and last_line > $2 "
            "order by last_line limit $3",
            spool.spool_id,
            after_line,
            _FETCH_ROWS,
        )
        for row in rows:
            first = row["last_line"] - row["lines"] + 1
            records = ingest_pb2.ReportRequest.FromString(row["records"]).records
            run = [
                metrics_pb2.StoredLogLine(
                    sequence=line,
                    at_ms=record.at_ms,
                    text=record.log_line.text,
                    error=record.log_line.error,
                    attempt_id=spool.attempt_id,
                )
                for line, record in enumerate(records, first)
                if after_line < line <= up_to
            ]
            if run:
                yield run
            after_line = row["last_line"]
        if not rows:
            return
