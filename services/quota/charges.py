"""The read model `charges`: attempts, usage by month, quotas and announcements, as tables that follow the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import JobSubmitted
from protos.events.v1.workspace_pb2 import (
    MinutesAdjusted,
    QuotaExhausted,
    QuotaReplenished,
    QuotaSet,
    QuotaThresholdReached,
)
from services.postgres import Connection
from services.quota.domain.attempt import AttemptEvent
from services.quota.domain.ledger import ATTEMPT_EVENTS
from services.quota.domain.minutes import MS_MICROS_PER_MILLIMINUTE
from services.quota.settle import Change, load, write_attempts, write_changes

NAME = "charges"

TABLES = (
    "jobs",
    "attempts",
    "links",
    "job_usage",
    "usage",
    "usage_history",
    "adjustments",
    "quotas",
    "quota_history",
    "thresholds",
    "exhaustions",
)


class Job(NamedTuple):
    """A row of `jobs`."""

    workspace_id: str
    # Of its first event here.
    position: int
    name: str = ""
    person: str = ""
    workflow: str = ""
    workflow_name: str = ""


class Adjusted(NamedTuple):
    """A row of `adjustments`."""

    position: int
    workspace_id: str
    period: str
    ms_micros: int
    job_id: str


@dataclass(slots=True)
class _Batch:
    """What a run of records says, before it is written."""

    # By job id.
    submitted: dict[str, Job] = field(default_factory=dict)
    attempt_events: list[tuple[EventRecord, AttemptEvent]] = field(default_factory=list)
    adjusted: list[Adjusted] = field(default_factory=list)
    # Workspace, quota, position; in order.
    quotas: list[tuple[str, int | None, int]] = field(default_factory=list)
    thresholds: list[tuple[str, str, int, int]] = field(default_factory=list)
    # Workspace, period → position of the newest QuotaExhausted; zero: QuotaReplenished followed it.
    exhaustions: dict[tuple[str, str], int] = field(default_factory=dict)


class Charges:
    """A ReadModel. Everything is computed by the domain; here it is only loaded and stored."""

    name = NAME

    async def clear(self, connection: Connection) -> None:
        await connection.execute(f"truncate {', '.join(f'quota.{table}' for table in TABLES)}")

    async def apply(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        batch = _sort(records)
        jobs, changes = batch.submitted, [change_of(adjusted) for adjusted in batch.adjusted if adjusted.ms_micros]
        if batch.attempt_events:
            fold = await load(connection, {event.attempt_id for _, event in batch.attempt_events})
            for record, event in batch.attempt_events:
                if event.attempt_id not in fold.attempts:
                    jobs.setdefault(record.stream_id, Job(record.workspace_id, record.position))
                fold.take(record, event)
            await write_attempts(connection, fold)
            changes = sorted([*changes, *fold.changes])
        if jobs:
            await _write_jobs(connection, jobs)
        await write_changes(connection, changes)
        if batch.adjusted:
            await _write_adjustments(connection, batch.adjusted)
        await _write_quotas(connection, batch)


def _sort(records: Sequence[EventRecord]) -> _Batch:
    batch = _Batch()
    for record in records:
        workspace_id, position = record.workspace_id, record.position
        payload = record.payload.value
        event_class = ATTEMPT_EVENTS.get(record.type)
        if event_class is not None:
            event = event_class.FromString(payload)
            if event.attempt_id:
                batch.attempt_events.append((record, event))
        elif record.type == "JobSubmitted":
            batch.submitted[record.stream_id] = job_of(record)
        elif record.type == "MinutesAdjusted":
            batch.adjusted.append(adjusted_of(record))
        elif record.type == "QuotaSet":
            quota = QuotaSet.FromString(payload)
            limit = quota.quota_milliminutes if quota.HasField("quota_milliminutes") else None
            batch.quotas.append((workspace_id, limit, position))
        elif record.type == "QuotaThresholdReached":
            reached = QuotaThresholdReached.FromString(payload)
            batch.thresholds.append((workspace_id, reached.period, reached.percent, position))
        elif record.type == "QuotaExhausted":
            batch.exhaustions[workspace_id, QuotaExhausted.FromString(payload).period] = position
        elif record.type == "QuotaReplenished":
            batch.exhaustions[workspace_id, QuotaReplenished.FromString(payload).period] = 0
    return batch


def job_of(record: EventRecord) -> Job:
    """The row that a JobSubmitted makes."""
    event = JobSubmitted.FromString(record.payload.value)
    dataset, architecture = event.spec.dataset, event.spec.architecture
    workflow = event.spec.workflow_id or f"{dataset.dataset_id}/{architecture.architecture_id}"
    workflow_name = event.spec.workflow_name or f"{dataset.name} · {architecture.architecture_id}"
    return Job(record.workspace_id, record.position, event.name, record.actor, workflow, workflow_name)


def adjusted_of(record: EventRecord) -> Adjusted:
    """The row that a MinutesAdjusted makes."""
    event = MinutesAdjusted.FromString(record.payload.value)
    amount = event.milliminutes * MS_MICROS_PER_MILLIMINUTE
    return Adjusted(record.position, record.workspace_id, event.period, amount, event.job_id)


def change_of(adjusted: Adjusted) -> Change:
    return Change(adjusted.position, adjusted.workspace_id, adjusted.period, "", 0, adjusted.ms_micros)


async def _write_jobs(connection: Connection, jobs: Mapping[str, Job]) -> None:
    await connection.execute(
        "insert into quota.jobs as known (job_id, workspace_id, position, name, person, workflow, workflow_name) "
        "select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[]) "
        # An attempt that is told of before its job makes the row, and the job fills it in.
        "on conflict (job_id) do update set name = excluded.name, person = excluded.person, "
        "workflow = excluded.workflow, workflow_name = excluded.workflow_name "
        "where known.workflow = '' and excluded.workflow <> ''",
        list(jobs),
        *(list(column) for column in zip(*jobs.values(), strict=True)),
    )


async def _write_adjustments(connection: Connection, adjusted: Sequence[Adjusted]) -> None:
    await connection.execute(
        "insert into quota.adjustments (position, workspace_id, period, ms_micros, job_id) "
        "select * from unnest($1::bigint[], $2::text[], $3::text[], $4::numeric[], $5::text[])",
        *(list(column) for column in zip(*adjusted, strict=True)),
    )


async def _write_quotas(connection: Connection, batch: _Batch) -> None:
    if batch.quotas:
        await connection.executemany(
            "insert into quota.quotas (workspace_id, quota_milliminutes, position) values ($1, $2, $3) "
            "on conflict (workspace_id) do update "
            "set quota_milliminutes = excluded.quota_milliminutes, position = excluded.position",
            batch.quotas,
        )
        await connection.executemany(
            "insert into quota.quota_history (workspace_id, quota_milliminutes, position) values ($1, $2, $3)",
            batch.quotas,
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
            [(*key, position) for key, position in batch.exhaustions.items() if position],
        )
        await connection.executemany(
            "delete from quota.exhaustions where workspace_id = $1 and period = $2",
            [key for key, position in batch.exhaustions.items() if not position],
        )
