"""Which box makes an export: the one with the checkpoint, otherwise any that the platform can give it to."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.metrics.artifacts_claims import PREFERENCE_MS, Waiting, takers

ONE = Waiting("af_1", "ws", "rn_home", True, 1_000, "", 0)
LATER = ONE.created_at_ms + PREFERENCE_MS


def test_the_box_that_has_the_checkpoint_is_preferred_and_gets_a_moment_to_come() -> None:
    assert takers([ONE], {"rn_home": "ws", "rn_other": "ws"}, LATER) == {"af_1": "rn_home"}
    assert takers([ONE], {"rn_other": "ws"}, LATER - 1) == {}
    assert takers([ONE], {"rn_other": "ws"}, LATER) == {"af_1": "rn_other"}


def test_a_checkpoint_that_only_its_box_has_waits_for_that_box() -> None:
    assert takers([replace(ONE, anywhere=False)], {"rn_other": "ws"}, LATER * 1000) == {}


def test_a_box_of_another_workspace_never_gets_it() -> None:
    assert takers([ONE], {"rn_stranger": "ws_other"}, LATER * 1000) == {}


def test_what_a_box_has_taken_is_its_own_until_it_has_been_silent_for_long() -> None:
    taken = replace(ONE, claimed_by="rn_a", claimed_until_ms=50_000)
    assert takers([taken], {"rn_a": "ws", "rn_home": "ws"}, 40_000) == {"af_1": "rn_a"}
    assert takers([taken], {"rn_home": "ws"}, 49_999) == {}
    assert takers([taken], {"rn_home": "ws"}, 50_000) == {"af_1": "rn_home"}


@given(st.integers(1, 30), st.integers(1, 5))
def test_exports_are_spread_over_the_boxes(exports: int, boxes: int) -> None:
    waiting = [replace(ONE, artifact_id=f"af_{number}") for number in range(exports)]
    found = takers(waiting, {f"rn_{number}": "ws" for number in range(boxes)}, LATER)
    loads = [list(found.values()).count(f"rn_{number}") for number in range(boxes)]
    assert sum(loads) == exports
    assert max(loads) - min(loads) <= 1
