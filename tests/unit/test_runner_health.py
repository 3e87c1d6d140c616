"""The box's health: when a suspension begins, when it ends, and that it does not flicker between the two."""

from hypothesis import given
from hypothesis import strategies as st

from runner_agent.health import GIB, DiskSeen, DriverSeen, Health, judge

totals = st.integers(1 * GIB, 10_000 * GIB)


@given(total=totals, looks=st.lists(st.floats(0, 0.1), max_size=30))
def test_a_disk_suspends_below_its_limit_and_recovers_only_above_the_double(total: int, looks: list[float]) -> None:
    health, suspended = Health(), False
    for share in looks:
        free = int(share * total)
        if free < max(1 * GIB, int(0.02 * total)):
            suspended = True
        elif free >= max(2 * GIB, int(0.04 * total)):
            suspended = False
        before, health = health, judge(health, DiskSeen(total, free))
        assert (health.reason is not None) is suspended
        if before.disk and health.disk:
            assert before.disk == health.disk, "the same cause was told in other words"


def test_the_limits_are_the_larger_of_bytes_and_share() -> None:
    def suspends(total_gib: int, free_gib: float, before: Health | None = None) -> bool:
        seen = DiskSeen(total_gib * GIB, int(free_gib * GIB))
        return judge(before or Health(), seen).reason is not None

    ill = Health(disk="full")
    assert suspends(10, 0.99)
    assert not suspends(10, 1)
    assert suspends(1000, 19.9)
    assert not suspends(1000, 20)
    assert suspends(10, 1.99, ill)
    assert not suspends(10, 2, ill)
    assert suspends(1000, 39.9, ill)
    assert not suspends(1000, 40, ill)


def test_each_cause_is_lifted_by_itself_alone() -> None:
    full, roomy = DiskSeen(100 * GIB, 0), DiskSeen(100 * GIB, 50 * GIB)
    both = judge(judge(Health(), full), DriverSeen(error="GPU is lost"))
    assert both.reason is not None
    assert "nearly full (0.0 GiB free)" in both.reason
    assert "'GPU is lost'" in both.reason
    assert judge(both, DriverSeen()) == judge(Health(), full)
    assert judge(both, roomy) == judge(Health(), DriverSeen(error="GPU is lost"))
    assert judge(judge(both, roomy), DriverSeen()) == Health()


def test_a_driver_that_does_not_answer_is_told_as_such() -> None:
    assert "did not answer within 10 s" in (judge(Health(), DriverSeen(in_time=False)).reason or "")
