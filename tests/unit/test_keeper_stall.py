"""When a training counts as stalled, and when no longer."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner_agent import keeper
from runner_agent import keeper_messages as m
from runner_agent.keeper import SECOND_NS, State, step

WINDOW_NS = 100 * 3600 * SECOND_NS
LIMIT_NS = 1800 * SECOND_NS


class Keeper:
    """A keeper whose shell is awake: a Tick comes whenever one is due."""

    def __init__(self, *, limit_ns: int = LIMIT_NS, stop: bool = False) -> None:
        self.now_ns = 0
        self.state = State("p", "boot", 1, 2)
        self.facts: list[dict[str, Any]] = []
        self.actions: list[m.Action] = []
        anchor = m.Anchor(1_000, 0)
        start = m.Start("a1", "j1", "/a1", 360_000_000, WINDOW_NS, anchor, True, (), limit_ns, stop)
        for item in (m.Said({"event": "ready"}), start, m.Said({"event": "started", "weights": "random"})):
            self.feed(item)

    def feed(self, item: m.Input) -> None:
        self.state, actions = step(self.state, item, self.now_ns)
        self.actions += actions
        self.facts += [one.fact for one in actions if isinstance(one, m.AppendFact)]

    def say(self, event: str, **fields: Any) -> None:
        self.feed(m.Said({"event": event, **fields}))

    def wait(self, seconds: float) -> None:
        until_ns = self.now_ns + int(seconds * SECOND_NS)
        while (wake_ns := keeper.wake_at_ns(self.state)) is not None and wake_ns <= until_ns:
            self.now_ns = max(self.now_ns, wake_ns)
            self.feed(m.Tick())
        self.now_ns = until_ns

    def sleep(self, seconds: float) -> None:
        """Nothing runs on the box, and its clock goes on."""
        self.now_ns += int(seconds * SECOND_NS)
        self.feed(m.Tick())

    def told(self) -> list[str]:
        return [str(fact["fact"]) for fact in self.facts[1:]]


def test_a_training_without_a_step_for_its_limit_has_stalled_once_and_goes_on() -> None:
    one = Keeper()
    one.wait(10)
    one.say("progress", step=7, epoch=1)
    one.wait(1799)
    assert one.told() == []
    one.wait(1)
    assert one.told() == ["stalled"]
    assert (one.facts[-1]["step"], one.facts[-1]["since_boottime_ns"]) == (7, 10 * SECOND_NS)
    one.wait(3600)
    assert one.told() == ["stalled"]
    assert one.state.phase == keeper.RUNNING, "nobody asked for a stop"
    one.say("progress", step=7, epoch=1)
    assert one.told() == ["stalled"], "the same step is no step"
    one.say("progress", step=8, epoch=1)
    assert one.told() == ["stalled", "progressed"]
    one.wait(1800)
    assert one.told() == ["stalled", "progressed", "stalled"]


def test_a_training_that_never_makes_a_step_counts_from_its_start() -> None:
    one = Keeper()
    one.wait(1801)
    assert one.facts[-1]["since_boottime_ns"] == 0


def test_evaluations_and_checkpoints_are_getting_on() -> None:
    one = Keeper()
    for event in ("evaluation", "checkpoint", "evaluation"):
        one.wait(1700)
        one.say(event)
    assert one.told() == ["evaluation", "checkpoint", "evaluation"]
    one.wait(1800)
    one.say("checkpoint", checkpoint={"name": "c"})
    assert one.told()[-3:] == ["stalled", "progressed", "checkpoint"]


def test_a_stalled_training_is_stopped_where_that_was_asked_for_and_may_save() -> None:
    one = Keeper(stop=True)
    one.wait(1800)
    assert one.state.phase == keeper.STOPPING
    assert any(isinstance(action, m.Terminate) for action in one.actions)
    assert not any(isinstance(action, m.KillAll) for action in one.actions)
    one.say("checkpoint", checkpoint={"name": "c"})
    one.say("ended", outcome="KILLED", steps=3)
    assert "progressed" not in one.told(), "the checkpoint of a stop is no step"
    one.feed(m.Exited(0, "", False))
    end = one.facts[-1]
    assert (end["outcome"], end["reason"]) == ("KILLED", "END_REASON_STALLED")
    assert end["message"].startswith("the training made no step for 30 min after step 0")
    assert end["stop_began_boottime_ns"] == LIMIT_NS, "what comes after is free of charge"


def test_a_limit_of_zero_means_never() -> None:
    one = Keeper(limit_ns=0, stop=True)
    one.wait(3 * 3600)
    assert one.told() == []


def test_time_in_which_the_box_slept_is_not_held_against_the_training() -> None:
    one = Keeper(stop=True)
    one.wait(1000)
    one.sleep(7200)
    assert one.told() == []
    one.say("progress", step=1, epoch=0)
    one.wait(1799)
    assert one.state.phase == keeper.RUNNING


def test_what_has_not_started_or_is_being_stopped_does_not_stall() -> None:
    state, _ = step(State("p", "boot", 1, 2), m.Said({"event": "ready"}), 0)
    anchor = m.Anchor(1_000, 0)
    state, _ = step(state, m.Start("a1", "j1", "/a1", 1, WINDOW_NS, anchor, True, (), SECOND_NS, True), 0)
    _, actions = step(state, m.Tick(), 3 * SECOND_NS)
    assert not any(isinstance(action, m.AppendFact) for action in actions), "it loads its dataset"
    one = Keeper()
    one.feed(m.Stop("END_REASON_QUOTA_EXHAUSTED", "no minutes left", 3 * LIMIT_NS))
    one.wait(1900)
    assert one.told() == []


DOINGS = st.lists(
    st.tuples(st.sampled_from(["step", "same", "evaluation", "sleep", "nothing"]), st.integers(0, 4000)), max_size=20
)


@settings(deadline=None)
@given(DOINGS)
def test_stalls_and_steps_alternate_and_no_stall_comes_before_its_time(doings: list[tuple[str, int]]) -> None:
    one = Keeper()
    reached = got_on_ns = 0
    for doing, seconds in doings:
        before = len(one.facts)
        if doing == "sleep":
            one.sleep(seconds)
        else:
            one.wait(seconds)
        for fact in one.facts[before:]:
            assert fact["fact"] != "stalled" or fact["boottime_ns"] - got_on_ns >= LIMIT_NS
        if doing == "nothing" and seconds >= 1800:
            assert one.state.stalled
        match doing:
            case "step":
                reached += 1
                one.say("progress", step=reached, epoch=0)
            case "same":
                one.say("progress", step=reached, epoch=0)
            case "evaluation":
                one.say("evaluation", step=reached)
        if doing in ("step", "evaluation"):
            got_on_ns = one.now_ns
            assert not one.state.stalled
    told = [name for name in one.told() if name != "evaluation"]
    assert told[::2] == ["stalled"] * len(told[::2])
    assert told[1::2] == ["progressed"] * len(told[1::2])
