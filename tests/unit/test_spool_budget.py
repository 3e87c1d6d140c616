"""What gives way first when a spool is full, and that all that was dropped is counted."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runner_agent import disk_blocks, spool_budget
from runner_agent.losses import DISK_FULL, KINDS, SPOOL_FULL, Loss, Losses, parse

shares = st.lists(st.floats(0, 1.2), max_size=50)
losses = st.builds(
    Loss,
    st.sampled_from(KINDS),
    st.integers(1, 10**6),
    st.integers(0, 2 * 10**12),
    st.integers(0, 2 * 10**12),
    st.sampled_from([SPOOL_FULL, DISK_FULL]),
)


@given(shares)
def test_lines_and_samples_go_first_then_points_and_evaluations_stay_longest(looks: list[float]) -> None:
    gates = [
        spool_budget.first_to_go(),
        spool_budget.thinning(),
        spool_budget.points(),
        spool_budget.evaluations(),
    ]
    for share in looks:
        opened = [gate.is_open(share) for gate in gates]
        assert opened == sorted(opened), "what is less worth is kept while what is worth more is dropped"
        if share < 0.4:
            assert all(opened)
        if share >= 1:
            assert not any(opened)


def test_a_gate_does_not_flicker_at_its_limit() -> None:
    gate = spool_budget.first_to_go()
    assert [gate.is_open(share) for share in (0.49, 0.5, 0.49, 0.41, 0.39, 0.49)] == [
        True,
        False,
        False,
        False,
        True,
        True,
    ]


@given(attempt=st.integers(0, 10**12), box=st.integers(0, 10**12), others=st.integers(0, 10**12))
def test_an_attempt_gets_what_the_others_leave_and_never_nothing(attempt: int, box: int, others: int) -> None:
    granted = spool_budget.granted_bytes(attempt, box, others)
    assert granted >= spool_budget.LEAST_BYTES
    assert granted == spool_budget.LEAST_BYTES or (granted <= attempt and granted + others <= box)


def test_the_default_limit_is_the_smaller_of_bytes_and_share() -> None:
    default = spool_budget.ATTEMPT_DEFAULT
    assert spool_budget.default_limit(default, 10**15) == 2 * spool_budget.GIB
    assert spool_budget.default_limit(default, 10 * spool_budget.GIB) == spool_budget.GIB // 2


def test_between_two_looks_a_writer_counts_what_it_writes_itself(tmp_path: Path) -> None:
    spool_budget.write_limit(tmp_path, 1000)
    (tmp_path / "trainer.jsonl").write_bytes(b"x" * 100)
    budget = spool_budget.Budget(tmp_path)
    assert budget.share(0) == 0.1
    budget.wrote(300)
    assert budget.share(1) == 0.4
    (tmp_path / "log.jsonl").write_bytes(b"x" * 500)
    assert budget.share(spool_budget.LOOK_INTERVAL_NS) == 0.6


@given(offset=st.integers(0, 10**9))
def test_what_is_given_back_never_reaches_the_last_line_that_was_delivered(offset: int) -> None:
    freed = disk_blocks.freed_up_to(offset)
    assert freed % disk_blocks.UNIT_BYTES == 0
    assert freed == 0 or offset - freed >= 64 * 1024


@given(st.lists(losses, min_size=1, max_size=30))
def test_losses_are_counted_once_each_and_told_in_one_line(found: list[Loss]) -> None:
    untold = Losses()
    for loss in found:
        untold.add(parse(loss.as_json()))
    expected = {kind: sum(one.count for one in found if one.kind == kind) for kind in KINDS}
    assert untold.total() == {kind: count for kind, count in expected.items() if count}
    sentence = untold.sentence(2 * spool_budget.GIB)
    assert "\n" not in sentence
    assert ("its spool of 2 GiB was full" in sentence) == any(one.cause == SPOOL_FULL for one in found)
    assert sum(one.count for one in untold.take()) == sum(one.count for one in found)
    assert not untold


def test_a_loss_is_told_with_its_time_and_its_cause() -> None:
    untold = Losses()
    minute_ms = 60_000
    untold.add(
        Loss("log lines", 1204, 19 * 60 * minute_ms + 2 * minute_ms, 19 * 60 * minute_ms + 7 * minute_ms, "spool")
    )
    untold.add(
        Loss("metric points", 1, 19 * 60 * minute_ms + 3 * minute_ms, 19 * 60 * minute_ms + 3 * minute_ms, "spool")
    )
    assert untold.sentence(2 * spool_budget.GIB) == (
        "warning: 1,204 log lines and 1 metric point of 19:02–19:07 UTC were dropped on the box: "
        "its spool of 2 GiB was full"
    )
