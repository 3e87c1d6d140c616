"""Minutes in SQL over an export = the fold of the quota service = the slow count from the formula."""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.events.v1 import workspace_pb2 as workspace
from services.client.sql import Database, open_database
from services.quota.domain.attempt import charge, charge_by_period
from services.quota.domain.ledger import Ledger
from services.quota.domain.minutes import END_OF_TIME_MS, to_milliminutes
from tests.support.exported import export_records
from tests.support.filled_log import numbered
from tests.support.histories import DAY_MS, HOUR_MS, MINUTE_MS, histories, history, record

T = 1_794_744_000_000


def folded(records: Sequence[EventRecord]) -> Ledger:
    ledger = Ledger()
    for one in records:
        ledger.take(one)
    return ledger


def same(database: Database, ledger: Ledger, known_ms: int) -> None:
    """Every figure that SQL gives is the fold's, to the millionth of a millisecond."""
    asked = database.query(f"select attempt_id, workspace_id, job_id, ms_micros from charges_at({known_ms})")
    assert {row[0]: (row[1], row[2], int(row[3])) for row in asked} == {
        attempt_id: (attempt.workspace_id, attempt.job_id, charge(attempt, known_ms))
        for attempt_id, attempt in ledger.attempts.items()
    }
    months: dict[tuple[str, str], int] = {}
    adjusted: dict[tuple[str, str], int] = {}
    for attempt in ledger.attempts.values():
        for period, ms_micros in charge_by_period(attempt, known_ms).items():
            key = (attempt.workspace_id, period)
            months[key] = months.get(key, 0) + ms_micros
    for workspace_id, period, ms_micros in ledger.adjustments.values():
        key = (workspace_id, period)
        adjusted[key] = adjusted.get(key, 0) + ms_micros
    told = database.query(
        "select workspace_id, period, charged_ms_micros, adjusted_ms_micros, milliminutes "
        f"from minutes_at({known_ms}) where charged_ms_micros <> 0 or adjusted_ms_micros <> 0"
    )
    assert {(row[0], row[1]): tuple(map(int, row[2:])) for row in told} == {
        key: (months.get(key, 0), adjusted.get(key, 0), to_milliminutes(months.get(key, 0) + adjusted.get(key, 0)))
        for key in months.keys() | adjusted.keys()
        if months.get(key) or adjusted.get(key)
    }
    days = database.query(f"select coalesce(sum(part_ms_micros), 0) from charges_cut_at({known_ms}, 'day')")
    assert int(next(iter(days))[0]) == sum(months.values())


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_sql_on_an_export_of_any_history_is_the_fold_of_its_log(data: st.DataObject) -> None:
    _is_the_fold(data)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_sql_on_an_export_of_many_histories_is_the_fold_of_their_logs(data: st.DataObject) -> None:
    _is_the_fold(data)


def _is_the_fold(data: st.DataObject) -> None:
    records = data.draw(histories())
    cuts = data.draw(st.lists(st.integers(0, len(records)), max_size=3))
    newest_ms = records[-1].recorded_at_us // 1000 if records else T
    later_ms = data.draw(st.integers(0, 70 * DAY_MS))
    with (
        tempfile.TemporaryDirectory() as folder,
        open_database(export_records(Path(folder) / "export", records, cuts)) as database,
    ):
        for known_ms in (newest_ms, newest_ms + later_ms):
            same(database, folded(records), known_ms)
        by_default = database.query("select coalesce(sum(ms_micros), 0) from charges")
        assert int(next(iter(by_default))[0]) == sum(
            charge(attempt, newest_ms) for attempt in folded(records).attempts.values()
        )


def of_job(*events: object) -> list[EventRecord]:
    return numbered([record(1, event) for event in events])  # type: ignore[arg-type]


def interval(start_ms: int, until_ms: int) -> job.ChargedInterval:
    return job.ChargedInterval(started_at_ms=start_ms, charged_until_ms=until_ms, ended_at_ms=until_ms)


@pytest.mark.parametrize(
    "records",
    [
        [],
        of_job(job.JobStarted(attempt_id="a", started_at_ms=T)),
        of_job(job.JobAssigned(attempt_id="a", rate_micros=-5), job.JobStarted(attempt_id="a", started_at_ms=T)),
        of_job(job.JobAssigned(attempt_id="a", rate_micros=7), job.JobFinished(attempt_id="a")),
        of_job(job.JobAssigned(attempt_id="a", rate_micros=7), job.JobKilled(reason=1)),
        # Ends before it starts; a start that is no moment; a correction that comes before what it corrects.
        of_job(
            job.JobAssigned(attempt_id="a", rate_micros=3),
            job.JobOutcomeCorrected(attempt_id="a", interval=interval(T, T + 5)),
            job.JobFinished(attempt_id="a", interval=interval(T, T + 9)),
            job.JobFinished(attempt_id="a", interval=interval(T, T + 11)),
            job.JobAssigned(attempt_id="b", rate_micros=1),
            job.JobFailed(attempt_id="b", interval=interval(T, T - 1)),
            job.JobAssigned(attempt_id="c", rate_micros=10**13),
            job.JobKilled(attempt_id="c", interval=interval(END_OF_TIME_MS - 3 * DAY_MS, 2**62)),
            job.JobAssigned(attempt_id="d", rate_micros=1),
            job.JobStarted(attempt_id="d", started_at_ms=-(2**62)),
        ),
        # A leap day, and a deadline that has passed.
        of_job(
            job.JobAssigned(attempt_id="a", rate_micros=1_500_000),
            job.JobStarted(attempt_id="a", started_at_ms=1_835_395_199_999),
            job.JobUnreachable(attempt_id="a", deadline_at_ms=1_835_395_199_999 + 2 * DAY_MS),
        ),
        numbered([record(1, workspace.MinutesAdjusted(period="2026-11", milliminutes=m)) for m in (-1, 5, -7)]),
    ],
)
def test_sql_agrees_with_the_fold_where_facts_are_missing_or_make_no_sense(
    records: list[EventRecord], tmp_path: Path
) -> None:
    with open_database(export_records(tmp_path / "export", records)) as database:
        for known_ms in (0, T, 1_835_395_199_999 + 5 * DAY_MS):
            same(database, folded(records), known_ms)


def test_what_a_lapse_costs_is_what_lies_between_the_last_contact_and_the_next_sign(tmp_path: Path) -> None:
    rate = 2_000_000
    records = of_job(
        job.JobAssigned(attempt_id="a", runner_name="box", rate_micros=rate),
        job.JobStarted(attempt_id="a", started_at_ms=T),
        # Two messages of one lapse, then a sign; then one to the end.
        job.JobUnreachable(attempt_id="a", last_contact_at_ms=T + HOUR_MS, deadline_at_ms=T + 2 * HOUR_MS),
        job.JobUnreachable(attempt_id="a", last_contact_at_ms=T + HOUR_MS, deadline_at_ms=T + 2 * HOUR_MS),
        job.JobReachable(attempt_id="a", cut_off_ms=5 * MINUTE_MS),
        job.JobUnreachable(attempt_id="a", last_contact_at_ms=T + 3 * HOUR_MS, deadline_at_ms=T + 4 * HOUR_MS),
        job.JobKilled(attempt_id="a", interval=interval(T, T + 3 * HOUR_MS + 15 * MINUTE_MS)),
    )
    with open_database(export_records(tmp_path / "export", records)) as database:
        rows = list(database.query("select from_ms, to_ms, ms_micros from cut_off order by from_ms"))
        assert rows == [
            (T + HOUR_MS, T + HOUR_MS + 5 * MINUTE_MS, 5 * MINUTE_MS * rate),
            (T + 3 * HOUR_MS, T + 3 * HOUR_MS + 15 * MINUTE_MS, 15 * MINUTE_MS * rate),
        ]


def test_time_cut_off_is_never_more_than_what_is_charged(tmp_path: Path) -> None:
    for seed in range(3):
        records = history(random.Random(seed), jobs=20)
        with open_database(export_records(tmp_path / str(seed), records)) as database:
            more = database.query(
                "select * from (select attempt_id, sum(ms_micros) as lapsed from cut_off group by 1) "
                "join charges using (attempt_id) where lapsed > ms_micros"
            )
            assert list(more) == []
