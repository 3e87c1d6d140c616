"""The keeper's rules under any order of inputs."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner_agent import keeper
from runner_agent import keeper_messages as m
from runner_agent.keeper import SECOND_NS, State, step

WINDOW_NS = 900 * SECOND_NS
GRACE_NS = 30 * SECOND_NS


def start_at(now_ns: int, attempt_id: str = "a1") -> m.Start:
    anchor = m.Anchor(1_000, now_ns)
    return m.Start(attempt_id, "j1", "/attempts/a1", 900_000, now_ns + WINDOW_NS, anchor, True, ())


def running() -> State:
    state = State("p", "boot", 1, 2)
    for item in (m.Said({"event": "ready"}), start_at(0), m.Said({"event": "started", "weights": "random"})):
        state, _ = step(state, item, 0)
    return state


def end_of(state: State, exited: m.Exited, now_ns: int = 1) -> dict[str, Any]:
    _, actions = step(state, exited, now_ns)
    kinds = [type(action) for action in actions]
    assert kinds == [m.KillAll, m.WriteOutcome, m.AppendFact, m.WritePhase, m.Quit]
    return next(action.content for action in actions if isinstance(action, m.WriteOutcome))


def test_the_start_is_written_down_with_what_the_trainer_told_of_it() -> None:
    told = {"weights": "hub/net", "weights_source": "WEIGHTS_SOURCE_PRETRAINED", "warnings": ["a"], "batch_size": 48}
    state = State("p", "boot", 1, 2)
    for item in (m.Said({"event": "ready"}), start_at(0)):
        state, _ = step(state, item, 0)
    _, actions = step(state, m.Said({"event": "started", "image_size": 32, **told}), 5)
    (fact,) = (action.fact for action in actions if isinstance(action, m.AppendFact))
    assert {name: fact[name] for name in told} == told
    assert (fact["fact"], fact["boottime_ns"], "image_size" in fact) == ("started", 5, False)


EVENTS = st.sampled_from(
    [
        {"event": "ready"},
        {"event": "started", "weights": "random"},
        {"event": "checkpoint", "checkpoint": {"name": "c"}},
        {"event": "evaluation", "step": 1, "epoch": 0, "metrics": {"accuracy": 0.5}},
        {"event": "progress", "step": 3, "epoch": 1},
        {"event": "ended", "outcome": "FINISHED", "reason": "", "message": "", "steps": 3, "epochs": 1},
        {"event": "ended", "outcome": "KILLED"},
        {"event": "progress", "step": float("nan"), "epoch": "x"},
        {"event": "nonsense"},
        {},
    ]
)
KINDS = st.one_of(
    st.sampled_from(["start", "renew", "tick", "stop", "stop"]),
    EVENTS,
    EVENTS,
    st.sampled_from(["exit", "orphaned", "start_failed", "tick", "renew", "start", "start"]),
)
STEPS = st.lists(st.tuples(KINDS, st.sampled_from([0, 1, 20, 400])), max_size=40)


def to_input(kind: str | dict[str, Any], now_ns: int) -> m.Input:
    match kind:
        case "start":
            return start_at(now_ns)
        case "start_failed":
            return m.StartFailed("the disk is full")
        case "renew":
            return m.Renew(now_ns + WINDOW_NS, m.Anchor(2_000, now_ns))
        case "stop":
            return m.Stop("END_REASON_QUOTA_EXHAUSTED", "no minutes left", GRACE_NS)
        case "exit":
            return m.Exited(-9, "", False)
        case "orphaned":
            return m.Orphaned()
        case "tick":
            return m.Tick()
        case _:
            return m.Said(kind)


@settings(max_examples=500, deadline=None)
@given(st.booleans(), STEPS)
def test_whatever_happens_the_keepers_promises_hold(begun: bool, steps: list[tuple[str | dict[str, Any], int]]) -> None:
    state = running() if begun else State("p", "boot", 1, 2)
    now_ns, released, phase_written = 0, int(begun), begun
    outcomes: list[dict[str, Any]] = []
    last_renewal_ns: int | None = 0 if begun else None
    for kind, seconds in steps:
        # Time passes as the shell lets it pass: a Tick whenever one is due.
        target_ns = now_ns + seconds * SECOND_NS
        while (wake_ns := keeper.wake_at_ns(state)) is not None and wake_ns <= target_ns:
            now_ns = max(now_ns, wake_ns)
            before = state
            state, actions = step(state, m.Tick(), now_ns)
            assert_never_taken_back(before, state)
            assert actions
        now_ns = target_ns
        before = state
        state, actions = step(state, to_input(kind, now_ns), now_ns)
        assert_never_taken_back(before, state)
        if kind in ("start", "renew") and state.attempt is not None and before.stop_began_ns is None:
            last_renewal_ns = state.deadline_ns - WINDOW_NS
        for action in actions:
            phase_written |= isinstance(action, m.CreatePhase)
            released += isinstance(action, m.Release)
            assert not isinstance(action, m.Release) or phase_written, "released before its phase was written"
            if isinstance(action, m.WriteOutcome):
                outcomes.append(action.content)
        assert released <= 1
        assert len(outcomes) <= 1
        alive = state.phase in (keeper.STARTING, keeper.RUNNING, keeper.STOPPING)
        if alive and last_renewal_ns is not None:
            if now_ns >= last_renewal_ns + WINDOW_NS:
                assert state.stop_began_ns is not None
            if now_ns >= last_renewal_ns + WINDOW_NS + GRACE_NS:
                # SIGKILL to everything, again each second until the trainer is gone.
                assert state.kill_at_ns is not None
                assert state.kill_at_ns <= now_ns + keeper.KILL_REPEAT_NS


def assert_never_taken_back(before: State, after: State) -> None:
    if before.stop_began_ns is not None:
        assert after.stop_began_ns == before.stop_began_ns
        assert after.stop_reason == before.stop_reason
        assert after.phase in (keeper.STOPPING, keeper.ENDED)
    if before.phase == keeper.ENDED:
        assert after == before


def test_a_training_that_finished_while_its_stop_was_under_way_has_finished() -> None:
    state, _ = step(running(), m.Stop("END_REASON_QUOTA_EXHAUSTED", "no minutes left"), 5)
    state, _ = step(state, m.Said({"event": "ended", "outcome": "FINISHED", "steps": 9}), 6)
    end = end_of(state, m.Exited(0, "", False))
    assert (end["outcome"], end["reason"], end["steps"]) == ("FINISHED", "", 9)
    assert end["stop_began_boottime_ns"] == 5


def test_the_first_reason_of_a_stop_is_the_one_that_is_told() -> None:
    state, _ = step(running(), m.Stop("END_REASON_QUOTA_EXHAUSTED", "no minutes left"), 5)
    state, actions = step(state, m.Tick(), WINDOW_NS + 1)
    assert any(isinstance(action, m.KillAll) for action in actions)
    end = end_of(state, m.Exited(-9, "", False))
    assert (end["outcome"], end["reason"]) == ("KILLED", "END_REASON_QUOTA_EXHAUSTED")


def test_a_stop_before_the_release_kills_at_once_and_nothing_has_started() -> None:
    state, _ = step(State("p", "boot", 1, 2), start_at(0), 0)
    state, actions = step(state, m.Stop("END_REASON_STOPPED_BY_PERSON", ""), 1)
    assert isinstance(actions[0], m.KillAll)
    state, actions = step(state, m.Said({"event": "ready"}), 2)
    assert actions == []
    assert end_of(state, m.Exited(-9, "", False))["started_boottime_ns"] is None


def test_a_trainer_without_last_words_failed_for_the_boxs_reasons() -> None:
    end = end_of(running(), m.Exited(-11, "CUDA error", False))
    assert (end["outcome"], end["reason"]) == ("FAILED", "END_REASON_INFRASTRUCTURE")
    assert "signal 11" in end["message"]
    assert "CUDA error" in end["message"]
    end = end_of(running(), m.Exited(-9, "", True))
    assert end["reason"] == "END_REASON_OUT_OF_MEMORY"


def test_a_trainer_that_has_said_ended_is_killed_where_it_does_not_exit() -> None:
    state, _ = step(running(), m.Said({"event": "ended", "outcome": "FINISHED"}), 0)
    assert keeper.wake_at_ns(replace(state, stamp_at_ns=10**18)) == keeper.EXIT_GRACE_NS
    _, actions = step(state, m.Tick(), keeper.EXIT_GRACE_NS)
    assert any(isinstance(action, m.KillAll) for action in actions)
