"""The SQL of storing: high-water rows, series, and the columns of a transaction."""

from collections.abc import Iterable, Mapping, Sequence

from services.metrics.attempts import Attempt
from services.metrics.plan import SeriesKey, Spool, SpoolKey
from services.metrics.rate import Room
from services.postgres import Connection, Record


async def lock_spools(connection: Connection, attempts: Mapping[SpoolKey, Attempt]) -> dict[SpoolKey, Spool]:
    """The spools' high-water rows, made where there are none, locked until the transaction ends."""
    keys = sorted(attempts)
    attempt_ids = [attempt_id for attempt_id, _ in keys]
    names = [spool for _, spool in keys]
    locked = await _lock(connection, attempt_ids, names)
    if len(locked) < len(keys):
        await connection.execute(
            "insert into metrics.spools (attempt_id, spool, job_id, assigned_position) "
            "select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) on conflict do nothing",
            attempt_ids,
            names,
            [attempts[key].job_id for key in keys],
            [attempts[key].assigned_position for key in keys],
        )
        locked = await _lock(connection, attempt_ids, names)
    return locked


async def _lock(connection: Connection, attempt_ids: Sequence[str], names: Sequence[str]) -> dict[SpoolKey, Spool]:
    # In one order everywhere, so that two replicas never wait for each other in a circle.
    rows = await connection.fetch(
        "select s.attempt_id, s.spool, s.spool_id, s.sequence, s.lines, s.refused, s.room_points, s.room_at_ms "
        "from unnest($1::text[], $2::text[]) k(attempt_id, spool) "
        "join metrics.spools s on s.attempt_id = k.attempt_id and s.spool = k.spool "
        "order by s.spool_id for update of s",
        attempt_ids,
        names,
    )
    return {(row["attempt_id"], row["spool"]): _spool(row) for row in rows}


def _spool(row: Record) -> Spool:
    room = None if row["room_points"] is None else Room(row["room_points"], row["room_at_ms"])
    return Spool(row["spool_id"], row["sequence"], row["lines"], row["refused"], room)


async def load_series(connection: Connection, job_id: str) -> dict[SeriesKey, int]:
    rows = await connection.fetch(
        "select r.spool_id, r.name, r.series_id from metrics.spools s join metrics.series r using (spool_id) "
        "where s.job_id = $1",
        job_id,
    )
    return {(row["spool_id"], row["name"]): row["series_id"] for row in rows}


async def add_series(connection: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, int]:
    if not keys:
        return {}
    rows = await connection.fetch(
        "insert into metrics.series (spool_id, name) select * from unnest($1::bigint[], $2::text[]) "
        "returning spool_id, name, series_id",
        [spool_id for spool_id, _ in keys],
        [name for _, name in keys],
    )
    return {(row["spool_id"], row["name"]): row["series_id"] for row in rows}


async def grow_series(connection: Connection, growth: Sequence[tuple[int, int, int, int, float]]) -> None:
    """Bring the statistics up to date; see `Plan.growth`."""
    if growth:
        await connection.execute(
            "update metrics.series s set points = s.points + g.points, first_step = least(s.first_step, g.first_step), "
            "last_step = greatest(s.last_step, g.last_step), last_value = g.last_value "
            "from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::float8[]) "
            "g(series_id, points, first_step, last_step, last_value) where s.series_id = g.series_id",
            *(list(column) for column in zip(*growth, strict=True)),
        )


async def count_refusals(connection: Connection, rows: Sequence[tuple[int, str, str, int]]) -> None:
    """Rows as `Plan.refusal_rows` gives them."""
    if rows:
        await connection.execute(
            "insert into metrics.refusals as r (spool_id, kind, reason, refused) "
            "select * from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) "
            "on conflict (spool_id, kind) do update set reason = excluded.reason, "
            "refused = r.refused + excluded.refused",
            *(list(column) for column in zip(*rows, strict=True)),
        )


async def move_spools(connection: Connection, spools: Iterable[Spool]) -> None:
    moved = list(spools)
    if moved:
        await connection.execute(
            "update metrics.spools s set sequence = m.sequence, lines = m.lines, refused = m.refused, "
            "room_points = m.room_points, room_at_ms = m.room_at_ms "
            "from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::float8[], $6::bigint[]) "
            "m(spool_id, sequence, lines, refused, room_points, room_at_ms) where s.spool_id = m.spool_id",
            [spool.spool_id for spool in moved],
            [spool.sequence for spool in moved],
            [spool.lines for spool in moved],
            [spool.refused for spool in moved],
            [spool.room and spool.room.points for spool in moved],
            [spool.room and spool.room.at_ms for spool in moved],
        )
