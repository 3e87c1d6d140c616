"""Laws of trimming, encoding and reduction."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.metrics.chunks import encode_steps, encode_times, read_batch, skip_of
from services.metrics.limits import Limits
from services.metrics.plan import Plan, Spool
from services.metrics.series import MIN_POINTS, Points, by_step, decode, decode_reduced, reduce
from tests.support.metrics_service import ATTEMPT, JOB, batch, line, point

INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.floats(allow_nan=True, allow_infinity=True)


@given(st.integers(1, 60), st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30)), max_size=60))
def test_whatever_is_sent_each_record_is_taken_once_and_in_order(spooled: int, sendings: list[tuple[int, int]]) -> None:
    taken: list[int] = []
    for first, length in [*sendings, *((number, 1) for number in range(1, spooled + 1))]:
        records = list(range(first, min(first + length, spooled + 1)))
        if (skip := skip_of(first, len(records), len(taken))) is not None:
            taken += records[skip:]
    assert taken == list(range(1, spooled + 1))


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 12)), max_size=20), st.integers(1, 12))
def test_a_group_of_any_batches_stores_what_they_would_one_by_one(
    sendings: list[tuple[int, int]], batch_records: int
) -> None:
    limits = Limits(batch_records=batch_records)
    points = [point(step, loss=step) for step in range(1, 31)]
    lines = [line(str(number)) for number in range(1, 31)]
    keys = {(ATTEMPT, "trainer"): Spool(1, 0, 0, 0), (ATTEMPT, "log"): Spool(2, 0, 0, 0)}
    plan = Plan(keys, {JOB: {}}, limits)
    reached = 0
    for first, length in sendings:
        sent = slice(first - 1, first - 1 + length)
        trainer = plan.add(read_batch(batch(first, points[sent]), 0, limits))
        log = plan.add(read_batch(batch(first, lines[sent], "log"), 0, limits))
        assert trainer.acknowledged_sequence == log.acknowledged_sequence >= reached
        reached = trainer.acknowledged_sequence
    rows = plan.chunk_rows({(1, "loss"): 7})
    columns = ("spool_id", "sequence", "series_id", "points", "first_step", "last_step", "first_at_ms", "steps")
    chunks = [dict(zip((*columns, "values", "at_ms"), row, strict=True)) for row in rows]
    steps = decode(chunks).steps.tolist() if chunks else []
    assert steps == list(range(1, reached + 1))
    assert [row[1] for row in plan.log_rows][-1:] == ([reached] if reached else [])
    assert plan.growth({(1, "loss"): 7}) == ([(7, reached, 1, reached, float(reached))] if reached else [])


def _regular(chunks: int) -> list[list[tuple[int, float, int]]]:
    """Chunks as a training makes them: every step once, in order."""
    return [[(step, float(step % 7), step) for step in range(at * 10, at * 10 + 10)] for at in range(chunks)]


SERIES = st.lists(
    st.lists(st.tuples(st.integers(-50, 50) | INT64, VALUES, st.integers(0, 99) | INT64), min_size=1, max_size=20),
    min_size=1,
    max_size=5,
)


def _chunk(points: list[tuple[int, float, int]]) -> dict[str, object]:
    steps, values, at_ms = (list(column) for column in zip(*points, strict=True))
    first_step, last_step, packed = encode_steps(np.array(steps, np.int64))
    first_at_ms, offsets = encode_times(np.array(at_ms, np.int64))
    return {
        "points": len(points),
        "first_step": first_step,
        "last_step": last_step,
        "steps": packed,
        "values": np.array(values, "<f8").tobytes(),
        "first_at_ms": first_at_ms,
        "at_ms": offsets,
    }


@given(SERIES)
def test_decoding_gives_back_what_was_encoded(series: list[list[tuple[int, float, int]]]) -> None:
    found = decode([_chunk(points) for points in series])
    assert found.steps.tolist() == [step for points in series for step, _, _ in points]
    assert found.at_ms.tolist() == [at_ms for points in series for _, _, at_ms in points]
    np.testing.assert_array_equal(found.values, [value for points in series for _, value, _ in points])


@given(SERIES | st.integers(1, 40).map(_regular), INT64, INT64, st.integers(MIN_POINTS, 40))
def test_a_reduction_while_decoding_equals_one_of_the_decoded(
    series: list[list[tuple[int, float, int]]], one: int, other: int, max_points: int
) -> None:
    from_step, to_step = sorted((one, other))
    chunks = sorted((_chunk(points) for points in series), key=lambda chunk: int(str(chunk["first_step"])))
    every = decode(chunks)
    expected = reduce(by_step(every.take((every.steps >= from_step) & (every.steps <= to_step))), max_points)
    found = decode_reduced(chunks, max_points, from_step, to_step)
    assert found.steps.tolist() == expected.steps.tolist()
    assert found.at_ms.tolist() == expected.at_ms.tolist()
    np.testing.assert_array_equal(found.values, expected.values)


@given(st.lists(VALUES, min_size=1, max_size=400), st.integers(MIN_POINTS, 60))
@settings(max_examples=300)
def test_a_reduction_keeps_both_ends_the_extremes_and_the_first_nan(values: list[float], max_points: int) -> None:
    count = len(values)
    points = Points(np.arange(count), np.array(values), np.arange(count) + 1000)
    reduced = reduce(points, max_points)
    assert len(reduced) <= max_points
    kept = reduced.steps.tolist()
    assert kept == sorted(set(kept))
    assert {0, count - 1} <= set(kept)
    np.testing.assert_array_equal(reduced.values, points.values[kept])
    np.testing.assert_array_equal(reduced.at_ms, points.at_ms[kept])
    numbers = [value for value in values if not math.isnan(value)]
    left = [value for value in reduced.values.tolist() if not math.isnan(value)]
    assert (min(left), max(left)) == (min(numbers), max(numbers)) if numbers else not left
    missing = [index for index, value in enumerate(values) if math.isnan(value)]
    assert missing[:1] == [index for index in kept if math.isnan(values[index])][:1]


@given(st.integers(0, 999), st.integers(MIN_POINTS, 100))
def test_a_spike_of_a_single_point_survives_anywhere(at: int, max_points: int) -> None:
    values = np.sin(np.arange(1000) / 10)
    values[at] = 5.0
    assert at in reduce(Points(np.arange(1000), values, np.arange(1000)), max_points).steps


def test_points_of_the_same_step_stay_in_the_order_of_their_arrival() -> None:
    points = Points(np.array([3, 1, 3, 2]), np.array([0.0, 1.0, 2.0, 3.0]), np.arange(4))
    assert by_step(points).values.tolist() == [1.0, 3.0, 0.0, 2.0]
