"""Writes attempts as the events change them, and what that changes in the totals."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import JobAssigned
from services.postgres import Connection
from services.quota.domain.attempt import Attempt, AttemptEvent, evolve, settled_by_period, unknown
from services.quota.domain.explain import link_change
from services.quota.domain.lapses import LinkChange
from services.quota.rows import COLUMNS, NOTHING, Beside, attempt_of, beside_of, row_of


class Change(NamedTuple):
    """By how much an event changes the total of a month, in ms × millionths."""

    position: int
    workspace_id: str
    period: str
    # Empty for an adjustment: it is no charge of a job.
    job_id: str
    charged: int
    adjusted: int


@dataclass(slots=True)
class Fold:
    """Attempts before and after a run of events, and what happened on the way."""

    before: dict[str, Attempt]
    attempts: dict[str, Attempt]
    beside: dict[str, Beside]
    links: list[tuple[str, LinkChange]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def take(self, record: EventRecord, event: AttemptEvent) -> None:
        """Fold one event; a repeat changes nothing."""
        attempt_id, position = event.attempt_id, record.position
        old = self.attempts.get(attempt_id) or unknown(record.workspace_id, record.stream_id)
        new = evolve(old, event, position)
        if new == old:
            return
        self.attempts[attempt_id] = new
        if old.assigned is None and isinstance(event, JobAssigned):
            self.beside[attempt_id] = self._beside(attempt_id)._replace(gpus=_gpus(event))
        elif old.outcome is None and new.outcome is not None:
            self.beside[attempt_id] = self._beside(attempt_id)._replace(ended_position=position)
        elif (link := link_change(event, position)) is not None:
            self.links.append((attempt_id, link))
        if new.outcome is not None:
            self._settle(old, new, position)

    def _beside(self, attempt_id: str) -> Beside:
        return self.beside.get(attempt_id, NOTHING)

    def _settle(self, old: Attempt, new: Attempt, position: int) -> None:
        earlier, later = settled_by_period(old), settled_by_period(new)
        if earlier == later:
            return
        for period in sorted(earlier.keys() | later.keys()):
            change = later.get(period, 0) - earlier.get(period, 0)
            if change:
                self.changes.append(Change(position, new.workspace_id, period, new.job_id, change, 0))

    def changed(self) -> list[str]:
        """Ids of the attempts that are not what they were."""
        return [key for key, attempt in self.attempts.items() if self.before.get(key) != attempt]


_UPSERT = (
    f"insert into quota.attempts ({', '.join(COLUMNS)}) select * from unnest("
    + ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(COLUMNS.values(), 1))
    + ") on conflict (attempt_id) do update set "
    + ", ".join(f"{column} = excluded.{column}" for column in COLUMNS if column != "attempt_id")
)


async def load(connection: Connection, attempt_ids: Iterable[str]) -> Fold:
    """The attempts as the tables hold them."""
    rows = await connection.fetch("select * from quota.attempts where attempt_id = any($1::text[])", list(attempt_ids))
    before = {row["attempt_id"]: attempt_of(row) for row in rows}
    return Fold(before, dict(before), {row["attempt_id"]: beside_of(row) for row in rows})


async def write_attempts(connection: Connection, fold: Fold) -> None:
    changed = fold.changed()
    if changed:
        rows = [row_of(key, fold.attempts[key], fold.beside.get(key, NOTHING)) for key in changed]
        await connection.execute(_UPSERT, *(list(column) for column in zip(*rows, strict=True)))
    if fold.links:
        await connection.execute(
            "insert into quota.links (attempt_id, position, cut_off, ms) "
            "select * from unnest($1::text[], $2::bigint[], $3::boolean[], $4::bigint[])",
            [attempt_id for attempt_id, _ in fold.links],
            *(list(column) for column in zip(*(link for _, link in fold.links), strict=True)),
        )


async def write_changes(connection: Connection, changes: Sequence[Change]) -> None:
    """Add the changes, in position order, to the sums by job and by month, and to the history of the months."""
    if not changes:
        return
    await _add_to_jobs(connection, changes)
    months: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for change in changes:
        months[change.workspace_id, change.period].append(change)
    rows = await connection.fetch(
        "insert into quota.usage as known (workspace_id, period, charged_ms_micros, adjusted_ms_micros) "
        "select * from unnest($1::text[], $2::text[], $3::numeric[], $4::numeric[]) "
        "on conflict (workspace_id, period) do update set "
        "charged_ms_micros = known.charged_ms_micros + excluded.charged_ms_micros, "
        "adjusted_ms_micros = known.adjusted_ms_micros + excluded.adjusted_ms_micros "
        "returning workspace_id, period, charged_ms_micros::text, adjusted_ms_micros::text",
        *(list(column) for column in zip(*months, strict=True)),
        [sum(change.charged for change in month) for month in months.values()],
        [sum(change.adjusted for change in month) for month in months.values()],
    )
    totals = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in rows}
    history = [
        (*key, *row) for key, month in months.items() for row in running_totals(_before(totals[key], month), month)
    ]
    await connection.execute(
        "insert into quota.usage_history (workspace_id, period, position, charged_ms_micros, adjusted_ms_micros) "
        "select * from unnest($1::text[], $2::text[], $3::bigint[], $4::numeric[], $5::numeric[])",
        *(list(column) for column in zip(*history, strict=True)),
    )
    # A correction can take a month's charge back; no row says "nothing", so that a rebuilt table is equal.
    nothing = [key for key, total in totals.items() if total == (0, 0)]
    if nothing:
        await connection.execute(
            "delete from quota.usage u using unnest($1::text[], $2::text[]) c(workspace_id, period) "
            "where u.workspace_id = c.workspace_id and u.period = c.period",
            *(list(column) for column in zip(*nothing, strict=True)),
        )


def running_totals(before: tuple[int, int], month: Sequence[Change]) -> list[tuple[int, int, int]]:
    """The month's totals after each of its changes: position, charged, adjusted. One a position, in order."""
    charged, adjusted = before
    rows: dict[int, tuple[int, int, int]] = {}
    for change in month:
        charged, adjusted = charged + change.charged, adjusted + change.adjusted
        rows[change.position] = (change.position, charged, adjusted)
    return list(rows.values())


def _before(total: tuple[int, int], month: Sequence[Change]) -> tuple[int, int]:
    """What the total was before the changes that it contains."""
    charged, adjusted = sum(change.charged for change in month), sum(change.adjusted for change in month)
    return total[0] - charged, total[1] - adjusted


async def _add_to_jobs(connection: Connection, changes: Sequence[Change]) -> None:
    added: dict[tuple[str, str, str], int] = defaultdict(int)
    for change in changes:
        if change.job_id:
            added[change.workspace_id, change.period, change.job_id] += change.charged
    sums = {key: amount for key, amount in added.items() if amount}
    if not sums:
        return
    # A question for each job, where a join may be planned as a walk through all jobs while they are still few.
    await connection.execute(
        "insert into quota.job_usage as known (workspace_id, period, job_position, job_id, ms_micros) "
        "select c.workspace_id, c.period, (select j.position from quota.jobs j where j.job_id = c.job_id), "
        "c.job_id, c.ms_micros "
        "from unnest($1::text[], $2::text[], $3::text[], $4::numeric[]) c(workspace_id, period, job_id, ms_micros) "
        "on conflict (workspace_id, period, job_position) "
        "do update set ms_micros = known.ms_micros + excluded.ms_micros",
        *(list(column) for column in zip(*sums, strict=True)),
        list(sums.values()),
    )
    # As with the months: no row says "nothing".
    taken_back = [key for key, amount in sums.items() if amount < 0]
    if taken_back:
        await connection.executemany(
            "delete from quota.job_usage where workspace_id = $1 and period = $2 "
            "and job_position = (select position from quota.jobs where job_id = $3) and ms_micros = 0",
            taken_back,
        )


def _gpus(event: JobAssigned) -> str:
    """The column `gpus`: what the rate is shared out by."""
    multipliers: dict[str, int] = defaultdict(int)
    for gpu in event.gpus:
        multipliers[gpu.type] += max(gpu.multiplier_micros, 0)
    return json.dumps(multipliers, sort_keys=True) if multipliers else ""
