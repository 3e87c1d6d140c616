"""The minutes folded anew from the log, job by job, in constant memory however long the log is."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from services.postgres import Connection, Record
from services.quota.domain.attempt import Attempt
from services.quota.domain.ledger import ATTEMPT_EVENTS, fold_into

_ROWS_AT_ONCE = 5000
# PostgreSQL sorts the events by their jobs before it hands out the first.
_SORT_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class ReplayedJob:
    """A job as its events tell it; `attempts` by attempt id, as they were assigned."""

    job_id: str
    attempts: dict[str, Attempt]
    events: int


async def replay_jobs(
    connection: Connection, workspace_id: str, last: int, job_id: str = ""
) -> AsyncIterator[list[ReplayedJob]]:
    """The workspace's jobs (with `job_id` only that one) as known at position `last`, in the order of their ids' bytes.

    PostgreSQL sorts the events by job, on disk where they are many; here is one job's state and the next few thousand
    rows. In the caller's transaction. Raises asyncpg's connection errors.
    """
    cursor = await connection.cursor(
        "select stream_id, position, type, payload from eventlog.events "
        "where stream_kind = 'job' and workspace_id = $1 and type = any($2) and position <= $3 "
        "and ($4 = '' or stream_id = $4) order by stream_id collate \"C\", position",
        workspace_id,
        list(ATTEMPT_EVENTS),
        last,
        job_id,
        timeout=_SORT_TIMEOUT_S,
    )
    fold = _Fold(workspace_id)
    while rows := await cursor.fetch(_ROWS_AT_ONCE, timeout=_SORT_TIMEOUT_S):
        yield fold.take(rows)
    yield fold.rest()


class _Fold:
    """Turns rows in the order of jobs into jobs; the last job of a run of rows may go on in the next one."""

    def __init__(self, workspace_id: str) -> None:
        self._workspace_id = workspace_id
        self._job_id, self._attempts, self._events = "", dict[str, Attempt](), 0

    def take(self, rows: Iterable[Record]) -> list[ReplayedJob]:
        """The jobs that are complete."""
        workspace_id = self._workspace_id
        job_id, attempts, events = self._job_id, self._attempts, self._events
        complete = []
        for stream_id, position, name, payload in rows:
            if stream_id != job_id:
                if job_id:
                    complete.append(ReplayedJob(job_id, attempts, events))
                job_id, attempts, events = stream_id, {}, 0
            events += 1
            fold_into(attempts, workspace_id, job_id, position, name, payload)
        self._job_id, self._attempts, self._events = job_id, attempts, events
        return complete

    def rest(self) -> list[ReplayedJob]:
        """The last job, where there was one."""
        return [ReplayedJob(self._job_id, self._attempts, self._events)] if self._job_id else []
