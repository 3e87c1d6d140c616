"""`stop --after-job`: when the runner may stop, and what of its owner's suspension it touches."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runner_agent import suspension
from runner_agent.draining import NO_STATUS, SETTLE_NS, Drain, version_of
from runner_agent.suspension import DRAINING, Kept, Now, OwnerSuspension

T0 = Now("boot", 5 * 10**12, 1_700_000_000_000)
TOLD = {"connected": True, "attempt": None, "suspensions": {"box_owner": DRAINING}, "suspensions_told": True}

statuses = st.none() | st.fixed_dictionaries(
    {
        "connected": st.booleans(),
        "attempt": st.sampled_from([None, {"attempt_id": "a1"}]),
        "unreported": st.integers(0, 1),
        "unshipped_bytes": st.integers(0, 1),
        "suspensions": st.sampled_from([{}, {"box_owner": DRAINING}, {"box_owner": "demo"}]),
        "suspensions_told": st.booleans(),
    }
)


@given(looks=st.lists(st.tuples(statuses, st.booleans(), st.integers(0, SETTLE_NS)), max_size=30))
def test_it_stops_only_after_a_second_in_which_nothing_was_left_to_do(
    looks: list[tuple[dict[str, Any] | None, bool, int]],
) -> None:
    drain, now_ns, idle_since_ns = Drain(), 0, None
    for status, held, passed_ns in looks:
        now_ns += passed_ns
        drain = drain.seen(status, held, now_ns)
        busy = held or status is None or status["attempt"] or status["unreported"] or status["unshipped_bytes"]
        may_be_given_more = (
            status is not None
            and status["connected"]
            and not (status["suspensions_told"] and status["suspensions"] == {"box_owner": DRAINING})
        )
        idle_since_ns = None if busy or may_be_given_more else (now_ns if idle_since_ns is None else idle_since_ns)
        assert drain.done(now_ns) == (idle_since_ns is not None and now_ns - idle_since_ns >= SETTLE_NS)


def test_a_runner_that_cannot_be_given_anything_waits_for_nothing_but_what_it_has_to_tell() -> None:
    cut_off = {**TOLD, "connected": False, "suspensions_told": False}
    assert Drain().seen(cut_off, False, 0).done(SETTLE_NS)
    assert not Drain().seen({**cut_off, "unreported": 1}, False, 0).done(SETTLE_NS)
    assert not Drain().seen(cut_off, True, 0).done(SETTLE_NS)


def test_the_wish_to_stop_goes_before_a_suspension_which_stands_again_when_it_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "suspension.json"
    for own in (None, suspension.make("demo", None, T0), suspension.make("demo", 3600, T0)):
        if own is not None:
            suspension.save(path, own)
        suspension.drain(path)
        assert suspension.read(path) == Kept(own, draining=True)
        assert suspension.current(path, T0) == OwnerSuspension(DRAINING)
        suspension.take_back_drain(path)
        assert suspension.read(path) == Kept(own)
        assert suspension.current(path, T0) == own
        assert path.exists() == (own is not None)


def test_a_suspension_meanwhile_keeps_the_wish_and_lifting_lifts_both(tmp_path: Path) -> None:
    path = tmp_path / "suspension.json"
    suspension.drain(path)
    suspension.save(path, suspension.make("demo", None, T0))
    assert suspension.read(path) == Kept(OwnerSuspension("demo"), draining=True)
    suspension.lift(path)
    assert suspension.read(path) == Kept()


def test_an_earlier_agents_status_is_told_from_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert version_of(path) == NO_STATUS
    path.write_text("{}")
    before = version_of(path)
    assert before == version_of(path) != NO_STATUS
    other = tmp_path / "new"
    other.write_text("{}")
    other.replace(path)
    assert version_of(path) != before
