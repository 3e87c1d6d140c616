"""Breakdowns of a month: their rows add up exactly, whatever they are by."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.quota.v1.quota_pb2 import UsageGrouping
from protos.training.v1.training_pb2 import Architecture, Dataset, TrainingSpec
from services.quota.charges import job_of
from services.quota.domain.attempt import charge_by_period, interval
from services.quota.domain.breakdown import MAX_ROWS, OTHERS, Breakdown, JobFacts, Part, Row
from services.quota.domain.explain import Life, lives
from services.quota.domain.lapses import LinkChange, lapses
from services.quota.domain.ledger import Ledger
from services.quota.domain.sharing import share
from services.quota.domain.spans import node_of, nodes_above
from tests.support.histories import DAY_MS, MINUTE_MS, histories, record
from tests.support.slow_minutes import minutes_by_month

GROUPINGS = [grouping for grouping in UsageGrouping.values() if grouping]
MS_MICROS_PER_MINUTE = 60_000 * 10**6
NOON_MS = 1_794_744_000_000  # 2026-11-15 12:00 UTC


def part_of(life: Life) -> Part:
    gpus: dict[str, int] = defaultdict(int)
    for gpu in life.assigned.gpus:
        gpus[gpu.type] += gpu.multiplier_micros
    return Part(life.attempt, tuple(gpus.items()), life.links)


def rows_of(
    records: Sequence[EventRecord], workspace_id: str, period: str, grouping: UsageGrouping.ValueType, now_ms: int
) -> list[Row]:
    """The breakdown of a whole log, without tables."""
    breakdown, ledger = Breakdown(grouping, period, now_ms), Ledger()
    jobs: dict[str, list[EventRecord]] = defaultdict(list)
    for one in records:
        if one.workspace_id == workspace_id and one.stream_kind == "job":
            jobs[one.stream_id].append(one)
        elif one.workspace_id == workspace_id:
            ledger.take(one)
    for job_id, events in jobs.items():
        facts = job_of(events[0])
        known = JobFacts(job_id, facts.name, facts.person, facts.workflow, facts.workflow_name)
        breakdown.add(known, [part_of(life) for life in lives(events).values()])
    breakdown.adjust(sum(amount for _, month, amount in ledger.adjustments.values() if month == period))
    return breakdown.rows()


@settings(max_examples=60)
@given(histories(), st.sampled_from([0, 7 * MINUTE_MS, 40 * DAY_MS]))
def test_the_rows_of_every_breakdown_add_up_to_the_month_by_the_slow_rules(
    records: list[EventRecord], after_ms: int
) -> None:
    now_ms = records[-1].recorded_at_us // 1000 + after_ms
    for (workspace_id, period), minutes in minutes_by_month(records, now_ms).items():
        cut_off = set()
        for grouping in GROUPINGS:
            rows = rows_of(records, workspace_id, period, grouping, now_ms)
            assert Fraction(sum(row.ms_micros for row in rows), MS_MICROS_PER_MINUTE) == minutes
            assert all(0 <= row.cut_off_ms_micros <= row.ms_micros for row in rows if row.key)
            cut_off.add(sum(row.cut_off_ms_micros for row in rows))
        assert len(cut_off) == 1, "the time cut off is the same, whatever it is broken down by"


@settings(max_examples=60)
@given(histories())
def test_a_day_has_what_is_between_its_midnights(records: list[EventRecord]) -> None:
    """A day of a log is the day of a log in which nothing else was charged."""
    now_ms = records[-1].recorded_at_us // 1000
    for life in lives(records).values():
        for period in charge_by_period(life.attempt, now_ms):
            breakdown = Breakdown(UsageGrouping.USAGE_GROUPING_DAY, period, now_ms)
            breakdown.add(JobFacts("jb", "", "p", "w", ""), [part_of(life)])
            known = interval(life.attempt, now_ms)
            for row in breakdown.rows():
                midnight_ms = int(datetime.fromisoformat(f"{row.key}T00:00:00+00:00").timestamp()) * 1000
                from_ms = max(known.started_at_ms, midnight_ms)
                until_ms = min(known.charged_until_ms, midnight_ms + DAY_MS)
                assert row.ms_micros == (until_ms - from_ms) * life.attempt.rate_micros


@given(st.integers(-(10**20), 10**20), st.dictionaries(st.text(max_size=3), st.integers(0, 10**9), min_size=1))
def test_shares_are_whole_add_up_and_are_off_by_less_than_one(amount: int, weights: dict[str, int]) -> None:
    parts = share(amount, weights)
    assert sum(parts.values()) == amount
    assert parts.keys() == weights.keys()
    total = sum(weights.values())
    for name, part in parts.items():
        exact = Fraction(amount * weights[name], total) if total else Fraction(amount, len(weights))
        assert abs(part - exact) < 1


def test_nothing_is_shared_among_nobody() -> None:
    assert share(7, {}) == {}


def test_what_is_left_goes_to_the_largest_remainders_and_then_by_name() -> None:
    assert share(10, {"b": 1, "a": 1, "c": 1}) == {"b": 3, "a": 4, "c": 3}
    assert share(10, {"a": 15, "b": 45, "c": 40}) == {"a": 2, "b": 4, "c": 4}
    assert share(-10, {"b": 1, "a": 1, "c": 1}) == {"b": -3, "a": -4, "c": -3}


def life_of(*events: object, job_id: str = "jb_1") -> Life:
    records = [record(number, one, ("job", job_id)) for number, one in enumerate(events, 1)]  # type: ignore[arg-type]
    return lives(records)["at_1"]


def mixed(rate_micros: int = 4_200_001) -> job.JobAssigned:
    gpus = [("Tesla T4", 1_000_000), ("NVIDIA A10G", 2_500_000), ("Tesla P4", 700_000)]
    return job.JobAssigned(
        attempt_id="at_1",
        runner_id="rn_1",
        runner_name="box",
        gpus=[job.ChargedGpu(type=name, multiplier_micros=micros) for name, micros in gpus],
        rate_micros=rate_micros,
    )


def finished(from_ms: int, until_ms: int) -> job.JobFinished:
    return job.JobFinished(
        attempt_id="at_1", interval=job.ChargedInterval(started_at_ms=from_ms, charged_until_ms=until_ms)
    )


def test_a_mixed_box_is_shared_out_by_its_multipliers_to_the_last_millionth() -> None:
    life = life_of(mixed(), finished(NOON_MS, NOON_MS + MINUTE_MS))
    breakdown = Breakdown(UsageGrouping.USAGE_GROUPING_GPU_TYPE, "2026-11", NOON_MS + DAY_MS)
    breakdown.add(JobFacts("jb_1", "", "", "", ""), [part_of(life)], adjusted=-7)
    # Of the one millionth that is left of the rate, the A10G's remainder is the largest; the refund is shared alike.
    assert [(row.key, row.ms_micros, row.jobs) for row in breakdown.rows()] == [
        ("NVIDIA A10G", 2_500_001 * MINUTE_MS - 4, 1),
        ("Tesla T4", 1_000_000 * MINUTE_MS - 2, 1),
        ("Tesla P4", 700_000 * MINUTE_MS - 1, 1),
    ]


@pytest.mark.parametrize(
    ("grouping", "key", "name"),
    [
        (UsageGrouping.USAGE_GROUPING_RUNNER, "rn_1", "box"),
        (UsageGrouping.USAGE_GROUPING_JOB, "jb_1", "digits"),
        (UsageGrouping.USAGE_GROUPING_PERSON, "token:tok_anna", ""),
        (UsageGrouping.USAGE_GROUPING_WORKFLOW, "ds_1/net", "digits · net"),
        (UsageGrouping.USAGE_GROUPING_DAY, "", ""),
    ],
)
def test_an_adjustment_belongs_to_its_jobs_row_and_to_no_day(
    grouping: UsageGrouping.ValueType, key: str, name: str
) -> None:
    life = life_of(mixed(), finished(NOON_MS, NOON_MS + MINUTE_MS))
    breakdown = Breakdown(grouping, "2026-12", NOON_MS + DAY_MS)
    facts = JobFacts("jb_1", "digits", "token:tok_anna", "ds_1/net", "digits · net")
    breakdown.add(facts, [part_of(life)], adjusted=-500)
    breakdown.adjust(20)
    found = {row.key: (row.name, row.ms_micros, row.jobs) for row in breakdown.rows()}
    assert found == ({"": ("", -480, 0)} if not key else {key: (name, -500, 0), "": ("", 20, 0)})


def test_a_training_that_has_just_started_has_a_row() -> None:
    life = life_of(mixed(), job.JobStarted(attempt_id="at_1", started_at_ms=NOON_MS))
    for grouping in GROUPINGS:
        breakdown = Breakdown(grouping, "2026-11", NOON_MS)
        breakdown.add(JobFacts("jb_1", "digits", "p", "w", ""), [part_of(life)])
        assert {row.jobs for row in breakdown.rows()} == {1}


def test_beyond_a_thousand_rows_the_smallest_are_one() -> None:
    breakdown = Breakdown(UsageGrouping.USAGE_GROUPING_JOB, "2026-11", NOON_MS + DAY_MS)
    for number in range(MAX_ROWS + 5):
        life = life_of(mixed(1), finished(NOON_MS, NOON_MS + 1 + number))
        breakdown.add(JobFacts(f"jb_{number}", "", "", "", ""), [part_of(life)])
    breakdown.adjust(-3)
    rows = breakdown.rows()
    assert len(rows) == MAX_ROWS
    assert sum(row.ms_micros for row in rows) == sum(range(1, MAX_ROWS + 6)) - 3
    assert (rows[-1].key, rows[-1].name, rows[-1].jobs) == (OTHERS, "7 more", 7)
    assert [row.ms_micros for row in rows if not row.key] == [-3]


@given(st.integers(1, 10**6), st.integers(1, 10**4), st.data())
def test_a_span_is_found_from_every_position_in_it(started: int, length: int, data: st.DataObject) -> None:
    node = node_of(started, started + length)
    assert node is not None
    assert started <= node < started + length
    position = data.draw(st.integers(started, started + length - 1))
    assert node in nodes_above(position)


@given(st.integers(0, 100), st.integers(0, 100))
def test_an_empty_span_has_no_node(started: int, ended: int) -> None:
    assert (node_of(started, ended) is None) == (started == 0 or ended <= started)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50))), st.integers(0, 60), st.integers(0, 60))
def test_lapses_lie_within_follow_one_another_and_are_not_empty(
    told: list[tuple[bool, int]], start_ms: int, until_ms: int
) -> None:
    found = lapses([LinkChange(number, *one) for number, one in enumerate(told, 1)], start_ms, until_ms)
    edges = [start_ms, *(edge for lapse in found for edge in (lapse.from_ms, lapse.to_ms)), max(until_ms, start_ms)]
    assert edges == sorted(edges)
    assert all(lapse.from_ms < lapse.to_ms for lapse in found)


def test_a_lapse_is_from_the_last_contact_to_the_next() -> None:
    links = [LinkChange(3, True, 1000), LinkChange(5, False, 500), LinkChange(9, True, 4000)]
    assert [tuple(lapse) for lapse in lapses(links, 0, 10_000)] == [(1000, 1500, 3, 5), (4000, 10_000, 9, 0)]


@given(histories())
def test_every_attempts_parts_are_its_charge(records: list[EventRecord]) -> None:
    now_ms = records[-1].recorded_at_us // 1000
    for life in lives(records).values():
        for period, charged in charge_by_period(life.attempt, now_ms).items():
            for grouping in GROUPINGS:
                breakdown = Breakdown(grouping, period, now_ms)
                breakdown.add(JobFacts("jb", "", "p", "w", ""), [part_of(life)])
                assert sum(row.ms_micros for row in breakdown.rows()) == charged


def test_the_trainings_of_a_workflow_are_one_row_under_its_newest_name_whatever_they_train() -> None:
    breakdown = Breakdown(UsageGrouping.USAGE_GROUPING_WORKFLOW, "2026-11", NOON_MS)
    for position, (workflow_id, name, dataset) in enumerate(
        [("wf_1", "small", "ds_1"), ("wf_1", "large", "ds_2"), ("", "", "ds_1")], 1
    ):
        spec = TrainingSpec(
            dataset=Dataset(dataset_id=dataset, name="digits"),
            architecture=Architecture(architecture_id="net"),
            workflow_id=workflow_id,
            workflow_name=name,
        )
        submitted = EventRecord(position=position, workspace_id="ws_1", type="JobSubmitted", actor="token:tok_1")
        submitted.payload.value = job.JobSubmitted(spec=spec).SerializeToString()
        facts = job_of(submitted)
        known = JobFacts(f"jb_{position}", facts.name, facts.person, facts.workflow, facts.workflow_name)
        breakdown.add(known, [], adjusted=position * 1000)
    rows = {row.key: (row.name, row.ms_micros) for row in breakdown.rows()}
    assert rows == {"wf_1": ("large", 3000), "ds_1/net": ("digits · net", 3000)}
