"""States of aggregates at some of their versions: a cache for answers as of the past."""

import hashlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.postgres import Pool
from services.scheduler import serde

# A fold that had to replay more events than this leaves snapshots behind, one at each multiple of it.
EVERY = 500
# At most this many of one stream: a longer stream has them at multiples of twice, four times, … as many events.
MOST = 256


def fingerprint_of(state: type[Any]) -> bytes:
    """Changes with the code that makes and reads such states: what other code has made is not read."""
    modules = (sys.modules[state.__module__], serde)
    return hashlib.sha256("".join(inspect.getsource(module) for module in modules).encode()).digest()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after the event at `position`, which is the stream's `version`th; version 0: before the first."""

    version: int
    position: int
    state: str | None


BEGINNING = Snapshot(0, 0, None)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a fold begins, and the multiples of versions at which it may leave snapshots."""

    snapshot: Snapshot
    step: int


class Snapshots:
    """Reads and writes the table `snapshots`."""

    def __init__(self, pool: Pool, every: int = EVERY, most: int = MOST) -> None:
        self._pool, self.every, self._most = pool, every, most

    async def starts(self, kind: str, ids: Sequence[str], position: int, fingerprint: bytes) -> dict[str, Start]:
        """For each of the streams that exists: its last snapshot that knows nothing after `position`."""
        rows = await self._pool.fetch(
            "select stream.id, stream.version as length, s.version, s.position, s.state "
            "from unnest($2::text[]) wanted (id) join eventlog.streams stream on stream.kind = $1 "
            "and stream.id = wanted.id left join lateral ("
            "select version, position, state from scheduler.snapshots known where known.kind = $1 "
            "and known.id = wanted.id and known.position <= $3 and known.fingerprint = $4 "
            "and known.log_id = (select log_id from eventlog.log) order by known.position desc limit 1"
            ") s on true",
            kind,
            list(ids),
            position,
            fingerprint,
        )
        return {
            row["id"]: Start(
                Snapshot(row["version"], row["position"], row["state"]) if row["state"] is not None else BEGINNING,
                self._step(row["length"]),
            )
            for row in rows
        }

    def _step(self, length: int) -> int:
        step = self.every
        while length // step > self._most:
            step *= 2
        return step

    async def keep(self, kind: str, id_: str, fingerprint: bytes, step: int, made: Sequence[Snapshot]) -> None:
        """Write snapshots of one stream, and drop those of it that nobody reads any more or that lie too close."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "delete from scheduler.snapshots where kind = $1 and id = $2 and (version % $3 <> 0 "
                "or fingerprint <> $4 or log_id <> (select log_id from eventlog.log))",
                kind,
                id_,
                step,
                fingerprint,
            )
            await connection.execute(
                "insert into scheduler.snapshots (kind, id, position, version, log_id, fingerprint, state) "
                "select $1, $2, made.position, made.version, log_id, $3, made.state from eventlog.log, "
                "unnest($4::bigint[], $5::bigint[], $6::text[]) made (position, version, state) "
                "on conflict do nothing",
                kind,
                id_,
                fingerprint,
                [one.position for one in made],
                [one.version for one in made],
                [one.state for one in made],
            )
