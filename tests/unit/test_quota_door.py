"""The scheduler's door: closed by QuotaExhausted for its month only, opened by what says that minutes are there."""

import pytest
from google.protobuf.message import Message

from protos.events.v1 import workspace_pb2 as ev
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.placement import refuse_exhausted
from services.scheduler.domain.refusals import QuotaUsedUp
from services.scheduler.domain.workspace import Workspace, evolve

NOVEMBER, DECEMBER = "2026-11", "2026-12"


def workspace(*events: Message) -> Workspace:
    state = None
    for version, event in enumerate((ev.WorkspaceCreated(name="w"), *events), 1):
        state = evolve(state, event, Envelope("ws_1", "ws_1", version, 0, "", version))
    assert state is not None
    return state


def exhausted(period: str = NOVEMBER) -> ev.QuotaExhausted:
    return ev.QuotaExhausted(period=period, position=7, used_milliminutes=10_250, quota_milliminutes=10_000)


def test_a_refusal_carries_the_numbers_and_the_way_out() -> None:
    with pytest.raises(QuotaUsedUp, match=r"10\.25 of its 10\.00 compute minutes of 2026-11; ask an admin to raise"):
        refuse_exhausted(workspace(exhausted()), NOVEMBER)


def test_the_door_is_closed_for_its_month_only() -> None:
    assert workspace(exhausted()).used_up(NOVEMBER) is not None
    assert workspace(exhausted()).used_up(DECEMBER) is None


def test_unlimited_is_what_nobody_has_set() -> None:
    refuse_exhausted(workspace(), NOVEMBER)


@pytest.mark.parametrize(
    "opening", [ev.QuotaSet(), ev.QuotaSet(quota_milliminutes=1), ev.QuotaReplenished(period=NOVEMBER)]
)
def test_a_new_quota_and_replenished_minutes_open_the_door(opening: Message) -> None:
    assert workspace(exhausted(), opening).used_up(NOVEMBER) is None
    assert workspace(exhausted(), opening, exhausted()).used_up(NOVEMBER) is not None


def test_what_does_not_say_that_minutes_are_there_opens_nothing() -> None:
    for event in (
        ev.MinutesAdjusted(period=NOVEMBER, milliminutes=-1),
        ev.QuotaThresholdReached(period=NOVEMBER, percent=100),
        ev.QuotaReplenished(period="2026-10"),
    ):
        assert workspace(exhausted(), event).used_up(NOVEMBER) is not None
