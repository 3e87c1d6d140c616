"""In the background, in one replica: small chunks are merged, and what nobody is to keep any longer is removed."""

import asyncio
from collections.abc import Iterable

import structlog

from services.clock import PlatformClock
from services.eventlog.leadership import lead
from services.metrics.merging import MERGED_COLUMNS, merged, runs, stretches
from services.postgres import LOST, Connection, Record

_INTERVAL_S = 2.0
_AFTER_FAILURE_S = 60.0
_RETENTION_INTERVAL_S = 3600.0
_DAY_MS = 86_400_000
# Stretches that are looked through together, and series that are merged together at most.
_TASKS = 64
_GROUP_POINTS = 1_000_000
_REMOVED_AT_ONCE = 100

_log = structlog.get_logger()


class Upkeep:
    """Run `run` in every replica. `retention_days`: how long figures and logs of a job that is over are kept; zero:
    for ever."""

    def __init__(self, url: str, clock: PlatformClock, retention_days: int = 0) -> None:
        self._url, self._clock, self._retention_days = url, clock, retention_days

    async def run(self) -> None:
        """Until cancelled."""
        await lead(self._url, "metrics.upkeep", self._work)

    async def _work(self, connection: Connection) -> None:
        # A crash may undo what was merged last, as a whole; nobody was told of it.
        await connection.execute("set synchronous_commit = off")
        remove_at = self._clock.monotonic()
        while True:
            began = self._clock.monotonic()
            try:
                if self._retention_days and began >= remove_at:
                    cutoff_ms = self._clock.now_ms() - self._retention_days * _DAY_MS
                    if not await remove_old(connection, cutoff_ms):
                        remove_at = began + _RETENTION_INTERVAL_S
                more = await merge_next(connection)
            except LOST:
                raise
            except Exception:
                # Readers do without; those who report do not even notice.
                _log.exception("the upkeep failed and is tried again")
                await asyncio.sleep(_AFTER_FAILURE_S)
            else:
                # At most half of the time, so that those who report and read come first.
                await asyncio.sleep(self._clock.monotonic() - began if more else _INTERVAL_S)


async def merge_next(connection: Connection) -> bool:
    """Merge the stretches that have waited longest. Whether there were any.

    Each stretch is a transaction of its own; after a crash the tasks are done again, and what was merged stays.
    """
    tasks = await connection.fetch(
        "select m.merge_id, m.spool_id, m.after, m.up_to, s.spool = 'log' as of_log "
        "from metrics.merges m join metrics.spools s using (spool_id) order by m.merge_id limit $1",
        _TASKS,
    )
    for (spool_id, of_log), (after, up_to) in _by_spool(tasks).items():
        for first, last in stretches(after, up_to):
            async with connection.transaction():
                await (_merge_lines if of_log else _merge_points)(connection, spool_id, first, last)
    await connection.execute(
        "delete from metrics.merges where merge_id = any($1)", [task["merge_id"] for task in tasks]
    )
    return bool(tasks)


def _by_spool(tasks: Iterable[Record]) -> dict[tuple[int, bool], tuple[int, int]]:
    """The stretches of one spool follow one another."""
    found: dict[tuple[int, bool], tuple[int, int]] = {}
    for task in tasks:
        key = (task["spool_id"], task["of_log"])
        after, up_to = found.get(key, (task["after"], task["up_to"]))
        found[key] = (min(after, task["after"]), max(up_to, task["up_to"]))
    return found


async def _merge_points(connection: Connection, spool_id: int, first: int, last: int) -> None:
    series = await connection.fetch(
        "select series_id, sum(points) as points, count(*) as chunks, max(sequence) as sequence from metrics.chunks "
        "where spool_id = $1 and sequence > $2 and sequence <= $3 group by series_id order by series_id",
        spool_id,
        first,
        last,
    )
    if all(row["chunks"] == 1 for row in series):
        return
    sequence = max(row["sequence"] for row in series)
    group: list[int] = []
    points = 0
    for row in series:
        group.append(row["series_id"])
        points += row["points"]
        if points >= _GROUP_POINTS:
            await _merge_series(connection, spool_id, first, last, sequence, group)
            group, points = [], 0
    await _merge_series(connection, spool_id, first, last, sequence, group)


async def _merge_series(
    connection: Connection, spool_id: int, first: int, last: int, sequence: int, series_ids: list[int]
) -> None:
    chunks = await connection.fetch(
        "delete from metrics.chunks where spool_id = $1 and sequence > $2 and sequence <= $3 "
        f"and series_id = any($4) returning {', '.join(_quoted(column) for column in MERGED_COLUMNS)}",
        spool_id,
        first,
        last,
        series_ids,
    )

    def rows() -> list[tuple[object, ...]]:
        of_series: dict[int, list[Record]] = {}
        for chunk in sorted(chunks, key=lambda chunk: (chunk["series_id"], chunk["sequence"])):
            of_series.setdefault(chunk["series_id"], []).append(chunk)
        return [merged(of_one, sequence) for of_one in of_series.values()]

    await connection.copy_records_to_table(
        "chunks", schema_name="metrics", columns=MERGED_COLUMNS, records=await asyncio.to_thread(rows)
    )


async def _merge_lines(connection: Connection, spool_id: int, first: int, last: int) -> None:
    chunks = await connection.fetch(
        "select last_line, lines, octet_length(records) as bytes from metrics.log_chunks "
        "where spool_id = $1 and last_line > $2 and last_line <= $3 order by last_line",
        spool_id,
        first,
        last,
    )
    for run in runs([(chunk["lines"], chunk["bytes"]) for chunk in chunks]):
        of_run = chunks[run.start : run.stop]
        removed = await connection.fetch(
            "delete from metrics.log_chunks where spool_id = $1 and last_line = any($2) returning last_line, records",
            spool_id,
            [chunk["last_line"] for chunk in of_run],
        )
        await connection.execute(
            "insert into metrics.log_chunks (spool_id, last_line, lines, records) values ($1, $2, $3, $4)",
            spool_id,
            of_run[-1]["last_line"],
            sum(chunk["lines"] for chunk in of_run),
            # Messages one behind the other are one message with the records of all.
            b"".join(row["records"] for row in sorted(removed, key=lambda row: int(row["last_line"]))),
        )


async def remove_old(connection: Connection, cutoff_ms: int) -> int:
    """Remove points and lines of jobs that were over before `cutoff_ms`, of so many spools at most. How many it were.

    Their high-waters stay, so that a repeat is still known as one; so do their evaluations.
    """
    spools = await connection.fetch(
        "select s.spool_id from metrics.jobs j join metrics.spools s using (job_id) "
        "where j.over_at < to_timestamp($1 / 1000.0) and s.sequence > s.removed_sequence order by s.spool_id limit $2",
        cutoff_ms,
        _REMOVED_AT_ONCE,
    )
    for (spool_id,) in spools:
        async with connection.transaction():
            # As whoever stores records of the spool.
            await connection.execute("select from metrics.spools where spool_id = $1 for update", spool_id)
            for table in ("chunks", "log_chunks", "merges"):
                await connection.execute(f"delete from metrics.{table} where spool_id = $1", spool_id)
            # The rows themselves stay: those who store know their ids.
            await connection.execute(
                "update metrics.series set points = 0, first_step = default, last_step = default, "
                "last_value = default where spool_id = $1",
                spool_id,
            )
            await connection.execute(
                "update metrics.spools set removed_sequence = sequence, removed_at = clock_timestamp() "
                "where spool_id = $1",
                spool_id,
            )
    if spools:
        _log.info("points and logs were removed after their time", spools=len(spools))
    return len(spools)


def _quoted(column: str) -> str:
    return f'"{column}"'
