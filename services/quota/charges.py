"""The read model `charges`: attempts, usage by month, quotas and announcements, as tables that follow the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import JobSubmitted
from protos.events.v1.workspace_pb2 import QuotaExhausted, QuotaSet, QuotaThresholdReached
from services.postgres import Connection
from services.quota.domain.attempt import Attempt, settled_by_period
from services.quota.domain.ledger import ATTEMPT_EVENTS, Ledger
from services.quota.rows import COLUMNS, attempt_of, row_of

NAME = "charges"

TABLES = ("jobs", "attempts", "job_usage", "usage", "adjustments", "quotas", "thresholds", "exhaustions")

_UPSERT_ATTEMPTS = (
    f"insert into quota.attempts ({', '.join(COLUMNS)}) select * from unnest("
    + ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(COLUMNS.values(), 1))
    + ") on conflict (attempt_id) do update set "
    + ", ".join(f"{column} = excluded.{column}" for column in COLUMNS)
)


@dataclass(slots=True)
class _Batch:
    """What a run of records says, before it is written."""

    # Job id → workspace, name, position of its first event here.
    jobs: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    attempt_events: list[tuple[EventRecord, str]] = field(default_factory=list)
    adjusted: Ledger = field(default_factory=Ledger)
    # Workspace → quota, position.
    quotas: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    thresholds: list[tuple[str, str, int, int]] = field(default_factory=list)
    exhaustions: dict[tuple[str, str], int] = field(default_factory=dict)


class Charges:
    """A ReadModel. Everything is computed by the domain; here it is only loaded and stored."""

    name = NAME

    async def clear(self, connection: Connection) -> None:
        await connection.execute(f"truncate {', '.join(f'quota.{table}' for table in TABLES)}")

    async def apply(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        batch = _sort(records)
        if batch.jobs:
            await _write_jobs(connection, batch.jobs)
        if batch.attempt_events:
            await _write_attempts(connection, batch.attempt_events)
        if batch.adjusted.adjustments:
            await _write_adjustments(connection, batch.adjusted.adjustments)
        await _write_quotas(connection, batch)


def _sort(records: Sequence[EventRecord]) -> _Batch:
    batch = _Batch()
    for record in records:
        workspace_id, position = record.workspace_id, record.position
        payload = record.payload.value
        if record.type in ATTEMPT_EVENTS:
            attempt_id = ATTEMPT_EVENTS[record.type].FromString(payload).attempt_id
            if attempt_id:
                batch.attempt_events.append((record, attempt_id))
                batch.jobs.setdefault(record.stream_id, (workspace_id, "", position))
        elif record.type == "JobSubmitted":
            first = batch.jobs.get(record.stream_id, (workspace_id, "", position))[2]
            batch.jobs[record.stream_id] = (workspace_id, JobSubmitted.FromString(payload).name, first)
        elif record.type == "QuotaSet":
            quota = QuotaSet.FromString(payload)
            limit = quota.quota_milliminutes if quota.HasField("quota_milliminutes") else None
            batch.quotas[workspace_id] = (limit, position)
        elif record.type == "QuotaThresholdReached":
            reached = QuotaThresholdReached.FromString(payload)
            batch.thresholds.append((workspace_id, reached.period, reached.percent, position))
        elif record.type == "QuotaExhausted":
            batch.exhaustions[workspace_id, QuotaExhausted.FromString(payload).period] = position
        else:
            batch.adjusted.take(record)
    return batch


async def _write_jobs(connection: Connection, jobs: Mapping[str, tuple[str, str, int]]) -> None:
    await connection.execute(
        "insert into quota.jobs as known (job_id, workspace_id, name, position) "
        "select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) "
        "on conflict (job_id) do update set name = excluded.name where known.name = '' and excluded.name <> ''",
        list(jobs),
        [workspace_id for workspace_id, _, _ in jobs.values()],
        [name for _, name, _ in jobs.values()],
        [position for _, _, position in jobs.values()],
    )


async def _write_attempts(connection: Connection, events: Sequence[tuple[EventRecord, str]]) -> None:
    rows = await connection.fetch(
        "select * from quota.attempts where attempt_id = any($1::text[])",
        list({attempt_id for _, attempt_id in events}),
    )
    before = {row["attempt_id"]: attempt_of(row) for row in rows}
    ledger = Ledger(dict(before))
    for record, _ in events:
        ledger.take(record)
    changed = {key: attempt for key, attempt in ledger.attempts.items() if before.get(key) != attempt}
    if not changed:
        return
    columns = zip(*(row_of(attempt_id, attempt) for attempt_id, attempt in changed.items()), strict=True)
    await connection.execute(_UPSERT_ATTEMPTS, *(list(column) for column in columns))
    await _write_usage(connection, _changes(before, changed))


def _changes(before: Mapping[str, Attempt], changed: Mapping[str, Attempt]) -> dict[tuple[str, str, str], int]:
    """By how much each workspace's, month's and job's settled charge changes."""
    changes: dict[tuple[str, str, str], int] = {}
    for attempt_id, attempt in changed.items():
        earlier = before.get(attempt_id)
        for sign, one in ((-1, earlier), (1, attempt)):
            for period, ms_micros in settled_by_period(one).items() if one is not None else ():
                key = (attempt.workspace_id, period, attempt.job_id)
                changes[key] = changes.get(key, 0) + sign * ms_micros
    return {key: change for key, change in changes.items() if change}


async def _write_usage(connection: Connection, changes: Mapping[tuple[str, str, str], int]) -> None:
    if not changes:
        return
    workspaces, periods, jobs = (list(column) for column in zip(*changes, strict=True))
    amounts = list(changes.values())
    await connection.execute(
        "insert into quota.job_usage as known (workspace_id, period, job_position, job_id, ms_micros) "
        "select c.workspace_id, c.period, j.position, c.job_id, c.ms_micros "
        "from unnest($1::text[], $2::text[], $3::text[], $4::numeric[]) c(workspace_id, period, job_id, ms_micros) "
        "join quota.jobs j on j.job_id = c.job_id on conflict (workspace_id, period, job_position) "
        "do update set ms_micros = known.ms_micros + excluded.ms_micros",
        workspaces,
        periods,
        jobs,
        amounts,
    )
    # A correction can take a month's charge back; no row says "nothing", so that a rebuilt table is equal.
    await connection.execute(
        "delete from quota.job_usage u "
        "using unnest($1::text[], $2::text[], $3::text[]) c(workspace_id, period, job_id), quota.jobs j "
        "where j.job_id = c.job_id and u.workspace_id = c.workspace_id and u.period = c.period "
        "and u.job_position = j.position and u.ms_micros = 0",
        workspaces,
        periods,
        jobs,
    )
    await _add_to_usage(connection, "charged_ms_micros", workspaces, periods, amounts)


async def _write_adjustments(connection: Connection, adjustments: Mapping[int, tuple[str, str, int]]) -> None:
    await connection.execute(
        "insert into quota.adjustments (position, workspace_id, period, ms_micros) "
        "select * from unnest($1::bigint[], $2::text[], $3::text[], $4::numeric[])",
        list(adjustments),
        *(list(column) for column in zip(*adjustments.values(), strict=True)),
    )
    workspaces, periods, amounts = zip(*adjustments.values(), strict=True)
    await _add_to_usage(connection, "adjusted_ms_micros", workspaces, periods, amounts)


async def _add_to_usage(
    connection: Connection, column: str, workspaces: Sequence[str], periods: Sequence[str], amounts: Sequence[int]
) -> None:
    await connection.execute(
        f"insert into quota.usage as known (workspace_id, period, {column}) "
        "select workspace_id, period, sum(ms_micros) from unnest($1::text[], $2::text[], $3::numeric[]) "
        "c(workspace_id, period, ms_micros) group by workspace_id, period "
        f"on conflict (workspace_id, period) do update set {column} = known.{column} + excluded.{column}",
        workspaces,
        periods,
        amounts,
    )
    await connection.execute(
        "delete from quota.usage u using unnest($1::text[], $2::text[]) c(workspace_id, period) "
        "where u.workspace_id = c.workspace_id and u.period = c.period "
        "and u.charged_ms_micros = 0 and u.adjusted_ms_micros = 0",
        workspaces,
        periods,
    )


async def _write_quotas(connection: Connection, batch: _Batch) -> None:
    if batch.quotas:
        await connection.executemany(
            "insert into quota.quotas (workspace_id, quota_milliminutes, position) values ($1, $2, $3) "
            "on conflict (workspace_id) do update "
            "set quota_milliminutes = excluded.quota_milliminutes, position = excluded.position",
            [(workspace_id, *quota) for workspace_id, quota in batch.quotas.items()],
        )
    if batch.thresholds:
        await connection.executemany(
            "insert into quota.thresholds (workspace_id, period, percent, position) values ($1, $2, $3, $4) "
            "on conflict do nothing",
            batch.thresholds,
        )
    if batch.exhaustions:
        await connection.executemany(
            "insert into quota.exhaustions (workspace_id, period, position) values ($1, $2, $3) "
            "on conflict (workspace_id, period) do update set position = excluded.position",
            [(*key, position) for key, position in batch.exhaustions.items()],
        )
