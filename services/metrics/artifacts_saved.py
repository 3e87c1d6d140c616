"""The checkpoints that the log tells of: a read model, and what is asked of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import CheckpointSaved
from services.clock import Clock
from services.eventlog.projection import Projection
from services.metrics.attempts import reach_head
from services.postgres import Connection, Pool


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint as its event told it."""

    attempt_id: str
    name: str
    step: int
    bytes: int
    sha256: str
    best: bool


class SavedCheckpoints:
    """The read model: table `saved_checkpoints`; artifacts of checkpoints that were dropped are marked in passing."""

    name = "saved_checkpoints"

    async def clear(self, connection: Connection) -> None:
        await connection.execute("truncate metrics.saved_checkpoints")

    async def apply(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        saved = [
            (record, CheckpointSaved.FromString(record.payload.value))
            for record in records
            if record.type == "CheckpointSaved"
        ]
        if not saved:
            return
        await connection.executemany(
            "insert into metrics.saved_checkpoints "
            "(attempt_id, name, job_id, workspace_id, step, bytes, sha256, best, position) "
            "values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (attempt_id, name) do update set "
            "step = excluded.step, bytes = excluded.bytes, sha256 = excluded.sha256, best = excluded.best, "
            "removed = false, position = excluded.position",
            [_row(record, event) for record, event in saved],
        )
        dropped = [
            (record.stream_id, name, record.position) for record, event in saved for name in event.checkpoint.removed
        ]
        if dropped:
            # A repeated attempt drops checkpoints of the ones before it too, so the newest of that name is meant.
            await connection.executemany(
                "with dropped as (update metrics.saved_checkpoints s set removed = true from ("
                "select attempt_id, name from metrics.saved_checkpoints where job_id = $1 and name = $2 "
                "and position < $3 and not removed order by position desc limit 1) newest "
                "where s.attempt_id = newest.attempt_id and s.name = newest.name returning s.attempt_id, s.name) "
                "update metrics.artifacts a set dropped = true from dropped d "
                "where a.kind = 1 and a.attempt_id = d.attempt_id and a.name = d.name and a.state in (1, 2)",
                dropped,
            )


def _row(record: EventRecord, event: CheckpointSaved) -> tuple[object, ...]:
    one = event.checkpoint
    return (
        event.attempt_id,
        one.name,
        record.stream_id,
        record.workspace_id,
        one.step,
        one.bytes,
        one.sha256,
        one.best,
        record.position,
    )


class Checkpoints:
    """Answers from the read model, which is looked at again once it has reached the log's head."""

    def __init__(self, pool: Pool, projection: Projection, clock: Clock) -> None:
        self._pool, self._projection, self._clock = pool, projection, clock

    async def find(self, job_id: str, name: str) -> Saved | None:
        """The job's checkpoint of that name; without a name the best, or else the newest. None: there is none.

        Raises Unavailable where the read model does not reach the head in time.
        """
        await reach_head(self._pool, self._projection, self._clock)
        row = await self._pool.fetchrow(
            "select attempt_id, name, step, bytes, sha256, best from metrics.saved_checkpoints "
            "where job_id = $1 and not removed and ($2 = '' or name = $2) "
            "order by ($2 = '' and best) desc, position desc limit 1",
            job_id,
            name,
        )
        return None if row is None else Saved(*row.values())

    async def dropped(self, attempt_id: str, name: str) -> bool:
        """Whether the strategy has dropped it, as far as is known by now."""
        found: bool | None = await self._pool.fetchval(
            "select removed from metrics.saved_checkpoints where attempt_id = $1 and name = $2", attempt_id, name
        )
        return bool(found)
