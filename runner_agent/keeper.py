"""The keeper's rules: when a trainer is released, when it is stopped, and what is told of its end.

A pure state machine, `step(state, input, now) -> (state, actions)`, standard library only. `now` and every `_ns` is
CLOCK_BOOTTIME in nanoseconds. Guarantees:

- a trainer is released at most once, and only behind a `CreatePhase` that succeeded;
- a stop once begun is never taken back, and SIGKILL follows when its grace is over, until the trainer is gone;
- a held attempt is stopped at its deadline, without asking anyone;
- the outcome is written before the phase `ended` and before the keeper quits;
- a training that does not get on for its stall limit, while keeper and box were awake, is said to have stalled, once,
  and to have gone on as soon as it has.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from runner_agent.keeper_messages import (
    STOP_GRACE_NS,
    Action,
    Anchor,
    AppendFact,
    CreatePhase,
    Exited,
    Input,
    KillAll,
    Orphaned,
    Quit,
    Refuse,
    Release,
    Renew,
    Said,
    Stamp,
    Start,
    StartFailed,
    Stop,
    Terminate,
    Tick,
    WriteOutcome,
    WritePhase,
)

SECOND_NS = 1_000_000_000
STAMP_INTERVAL_NS = 5 * SECOND_NS
# How long a trainer that has said `ended` may take to exit.
EXIT_GRACE_NS = 10 * SECOND_NS
KILL_REPEAT_NS = SECOND_NS
# A held attempt is looked at each STAMP_INTERVAL_NS; after a longer gap than this the box, or the keeper, was asleep.
ASLEEP_NS = 30 * SECOND_NS

WARM, STARTING, RUNNING, STOPPING, ENDED = "warm", "starting", "running", "stopping", "ended"
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
CONNECTION_LOST = "END_REASON_CONNECTION_LOST"
STALLED = "END_REASON_STALLED"
STOPPED_BY_PERSON = "END_REASON_STOPPED_BY_PERSON"
INFRASTRUCTURE = "END_REASON_INFRASTRUCTURE"
OUT_OF_MEMORY = "END_REASON_OUT_OF_MEMORY"


@dataclass(frozen=True, slots=True)
class State:
    pair: str
    boot_id: str
    keeper_pid: int
    trainer_pid: int
    phase: str = WARM
    # The trainer has imported everything and waits for its line.
    ready: bool = False
    released: bool = False
    attempt: Start | None = None
    deadline_ns: int = 0
    anchor: Anchor | None = None
    started_ns: int | None = None
    stop_began_ns: int | None = None
    stop_reason: str = ""
    stop_message: str = ""
    kill_at_ns: int | None = None
    ended_ns: int | None = None
    # The trainer's own `ended` line.
    told: dict[str, Any] | None = None
    step: int = 0
    epoch: int = 0
    # When it got on last: its start, a higher step, an evaluation or a checkpoint; none before its start.
    got_on_ns: int | None = None
    stalled: bool = False
    stamp_at_ns: int = 0
    # When anything was heard last, to the second.
    looked_ns: int = 0


def step(state: State, item: Input, now_ns: int) -> tuple[State, list[Action]]:
    """Apply one input; the actions are to be carried out in order. `now_ns` must not go backwards."""
    if state.phase == ENDED:
        return state, [Refuse("the attempt of this keeper has ended")] if isinstance(item, Start) else []
    state = _awake(state, now_ns)
    match item:
        case Start():
            return _start(state, item, now_ns)
        case StartFailed(message):
            return replace(state, phase=ENDED, ended_ns=now_ns), [Refuse(message), KillAll(), Quit()]
        case Renew(deadline_ns, anchor):
            if state.attempt is None:
                return state, [Refuse("no attempt is held")]
            return replace(state, deadline_ns=max(state.deadline_ns, deadline_ns), anchor=anchor), []
        case Stop(reason, message, grace_ns):
            if state.attempt is None:
                return state, [Refuse("no attempt is held")]
            return _stop(state, reason, message, grace_ns, now_ns)
        case Said(event):
            return _said(state, event, now_ns)
        case Exited():
            return _exited(state, item, now_ns)
        case Orphaned():
            # A held attempt goes on without its launcher; a warm pair is of no use to anyone.
            if state.attempt is None:
                return replace(state, phase=ENDED, ended_ns=now_ns), [KillAll(), Quit()]
            return state, []
        case Tick():
            return _tick(state, now_ns)


def wake_at_ns(state: State) -> int | None:
    """The moment at which a Tick is due; None where only another input can change anything."""
    if state.attempt is None or state.phase == ENDED:
        return None
    moments = [state.stamp_at_ns]
    if state.kill_at_ns is not None:
        moments.append(state.kill_at_ns)
    if state.stop_began_ns is None:
        moments.append(state.deadline_ns)
    if (stall_at_ns := _stall_at_ns(state)) is not None:
        moments.append(stall_at_ns)
    return min(moments)


def status(state: State, facts: int) -> dict[str, Any]:
    """What the keeper answers to the agent; `facts` is the number of facts that are durable."""
    return {
        "pair": state.pair,
        "keeper_pid": state.keeper_pid,
        "trainer_pid": state.trainer_pid,
        "phase": state.phase,
        "ready": state.ready,
        "attempt_id": state.attempt.attempt_id if state.attempt else "",
        "job_id": state.attempt.job_id if state.attempt else "",
        "deadline_boottime_ns": state.deadline_ns,
        "started_boottime_ns": state.started_ns,
        "stop_reason": state.stop_reason,
        "step": state.step,
        "epoch": state.epoch,
        "stalled": state.stalled,
        "facts": facts,
    }


def _start(state: State, item: Start, now_ns: int) -> tuple[State, list[Action]]:
    if state.attempt is not None:
        return state, [Refuse(f"this keeper holds {state.attempt.attempt_id}")]
    state = replace(
        state,
        phase=STARTING,
        attempt=item,
        deadline_ns=item.deadline_ns,
        anchor=item.anchor,
        stamp_at_ns=now_ns + STAMP_INTERVAL_NS,
        released=state.ready,
    )
    actions: list[Action] = [CreatePhase(_phase(state))]
    if state.ready:
        actions.append(Release(_line(item)))
    # The first stamp comes after the release: it must not delay the training.
    return state, [*actions, Stamp(_stamp(state, now_ns))]


def _said(state: State, event: dict[str, Any], now_ns: int) -> tuple[State, list[Action]]:
    attempt = state.attempt
    match event.get("event"):
        case "ready" if not state.ready:
            state = replace(state, ready=True)
            if attempt is not None and state.stop_began_ns is None:
                return replace(state, released=True), [Release(_line(attempt))]
        case "started" if state.released and state.started_ns is None and state.stop_began_ns is None:
            # A training that goes on from a checkpoint says where it is.
            step, epoch = _whole(event.get("step")), _whole(event.get("epoch"))
            state = replace(state, phase=RUNNING, started_ns=now_ns, got_on_ns=now_ns, step=step, epoch=epoch)
            told = ("weights", "weights_source", "warnings", "batch_size")
            fact = {name: event[name] for name in told if name in event}
            return state, [AppendFact(_fact(state, "started", fact, now_ns)), WritePhase(_phase(state))]
        case "checkpoint" if state.released:
            state, actions = _got_on(state, now_ns)
            saved = {"checkpoint": event.get("checkpoint", {})}
            return state, [*actions, AppendFact(_fact(state, "checkpoint", saved, now_ns))]
        case "evaluation" if state.released:
            state, actions = _got_on(state, now_ns)
            fact = {name: event[name] for name in ("step", "epoch", "metrics") if name in event}
            return state, [*actions, AppendFact(_fact(state, "evaluation", fact, now_ns))]
        case "progress":
            reached, before = _whole(event.get("step")), state.step
            state = replace(state, step=reached, epoch=_whole(event.get("epoch")))
            return _got_on(state, now_ns) if reached > before else (state, [])
        case "ended" if state.told is None:
            kill_at_ns = now_ns + EXIT_GRACE_NS
            if state.kill_at_ns is not None:
                kill_at_ns = min(kill_at_ns, state.kill_at_ns)
            return replace(state, told=event, kill_at_ns=kill_at_ns), []
    return state, []


def _awake(state: State, now_ns: int) -> State:
    """The moment is seen. Time in which nothing could be seen is not held against the training."""
    gap_ns = now_ns - state.looked_ns
    if gap_ns < SECOND_NS:
        return state
    if state.got_on_ns is not None and gap_ns > ASLEEP_NS:
        state = replace(state, got_on_ns=state.got_on_ns + gap_ns)
    return replace(state, looked_ns=now_ns)


def _stall_at_ns(state: State) -> int | None:
    """When the training will count as stalled, if nothing comes of it; None where it cannot, or does already."""
    attempt = state.attempt
    if attempt is None or not attempt.stall_ns or state.got_on_ns is None or state.phase != RUNNING or state.stalled:
        return None
    return state.got_on_ns + attempt.stall_ns


def _got_on(state: State, now_ns: int) -> tuple[State, list[Action]]:
    """The training has made a step, an evaluation or a checkpoint; what its stop saves is none."""
    if state.started_ns is None or state.stop_began_ns is not None:
        return state, []
    stalled, state = state.stalled, replace(state, got_on_ns=now_ns, stalled=False)
    return state, [AppendFact(_fact(state, "progressed", {"step": state.step}, now_ns))] if stalled else []


def _stalled(state: State, attempt: Start, now_ns: int) -> tuple[State, list[Action]]:
    stalled = {"step": state.step, "since_boottime_ns": state.got_on_ns}
    state = replace(state, stalled=True)
    actions: list[Action] = [AppendFact(_fact(state, "stalled", stalled, now_ns))]
    if attempt.stop_when_stalled:
        limit = _duration(attempt.stall_ns // 1_000_000)
        message = f"the training made no step for {limit} after step {state.step}; see its log for what it waits for"
        state, more = _stop(state, STALLED, message, STOP_GRACE_NS, now_ns)
        actions += more
    return state, actions


def _stop(
    state: State, reason: str, message: str, grace_ns: int, now_ns: int, began_ns: int | None = None
) -> tuple[State, list[Action]]:
    if state.stop_began_ns is not None:
        return state, []
    kill_at_ns = now_ns + grace_ns if state.released else now_ns + KILL_REPEAT_NS
    if state.kill_at_ns is not None:
        kill_at_ns = min(kill_at_ns, state.kill_at_ns)
    state = replace(
        state,
        phase=STOPPING,
        stop_began_ns=now_ns if began_ns is None else began_ns,
        stop_reason=reason,
        stop_message=message,
        kill_at_ns=kill_at_ns,
    )
    # A trainer that was never released has nothing to save.
    return state, [Terminate() if state.released else KillAll(), WritePhase(_phase(state))]


def _tick(state: State, now_ns: int) -> tuple[State, list[Action]]:
    attempt = state.attempt
    if attempt is None:
        return state, []
    actions: list[Action] = []
    if state.stop_began_ns is None and now_ns >= state.deadline_ns:
        window = _duration(attempt.window_ms)
        message = f"the box had no connection to the platform for {window}, so the training ended itself"
        # A box that slept through its deadline is charged to the deadline all the same.
        state, actions = _stop(state, CONNECTION_LOST, message, STOP_GRACE_NS, now_ns, began_ns=state.deadline_ns)
    stall_at_ns = _stall_at_ns(state)
    if stall_at_ns is not None and now_ns >= stall_at_ns:
        state, more = _stalled(state, attempt, now_ns)
        actions += more
    if state.kill_at_ns is not None and now_ns >= state.kill_at_ns:
        state = replace(state, kill_at_ns=now_ns + KILL_REPEAT_NS)
        actions.append(KillAll())
    if now_ns >= state.stamp_at_ns:
        state = replace(state, stamp_at_ns=now_ns + STAMP_INTERVAL_NS)
        actions.append(Stamp(_stamp(state, now_ns)))
    return state, actions


def _exited(state: State, exited: Exited, now_ns: int) -> tuple[State, list[Action]]:
    state = replace(state, phase=ENDED, ended_ns=now_ns)
    if state.attempt is None:
        return state, [KillAll(), Quit()]
    outcome = _outcome(state, exited)
    return state, [
        KillAll(),
        WriteOutcome(outcome),
        AppendFact(outcome),
        WritePhase(_phase(state)),
        Quit(),
    ]


def _outcome(state: State, exited: Exited) -> dict[str, Any]:
    told = state.told or {}
    name, reason, message = str(told.get("outcome", "")), str(told.get("reason", "")), str(told.get("message", ""))
    if name == FINISHED:
        # It had finished before the stop reached it.
        reason = ""
    elif state.stop_began_ns is not None:
        name, reason, message = KILLED, state.stop_reason, state.stop_message
    elif name == KILLED:
        reason = reason or STOPPED_BY_PERSON
        message = message or "somebody ended the training process on the box"
    elif name == FAILED:
        reason = reason or INFRASTRUCTURE
    else:
        name, reason, message = FAILED, INFRASTRUCTURE, _death(exited)
        if exited.out_of_memory:
            reason = OUT_OF_MEMORY
            message = "the box ran out of memory and its kernel ended the training; use a smaller batch or image size"
    ended = {
        "outcome": name,
        "reason": reason,
        "message": message,
        "started_boottime_ns": state.started_ns,
        "stop_began_boottime_ns": state.stop_began_ns,
        "steps": _whole(told.get("steps", state.step)),
        "epochs": _whole(told.get("epochs", state.epoch)),
        "metrics": told.get("metrics", {}),
    }
    return _fact(state, "ended", ended, state.ended_ns or 0)


def _death(exited: Exited) -> str:
    how = f"was ended by signal {-exited.code}" if exited.code < 0 else f"exited with code {exited.code}"
    last = f"; its last error line: {exited.last_error_line}" if exited.last_error_line else ""
    return f"the training process {how} without saying why{last}"


def _duration(window_ms: int) -> str:
    return f"{window_ms // 60_000} min" if window_ms >= 60_000 else f"{window_ms / 1000:g} s"


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def _line(attempt: Start) -> dict[str, Any]:
    return {
        "attempt_id": attempt.attempt_id,
        "job_id": attempt.job_id,
        "directory": attempt.directory,
        "simulated": attempt.simulated,
        "gpu_uuids": list(attempt.gpu_uuids),
    }


def _fact(state: State, name: str, content: dict[str, Any], now_ns: int) -> dict[str, Any]:
    return {"fact": name, "boot_id": state.boot_id, "boottime_ns": now_ns, **content}


def _anchor(state: State) -> dict[str, Any]:
    if state.anchor is None:
        return {}
    return {
        "anchor_at_ms": state.anchor.at_ms,
        "anchor_boottime_ns": state.anchor.boottime_ns,
        "anchor_uncertainty_ns": state.anchor.uncertainty_ns,
    }


def _stamp(state: State, now_ns: int) -> dict[str, Any]:
    progress = {"step": state.step, "epoch": state.epoch}
    return {"boot_id": state.boot_id, "boottime_ns": now_ns, **progress, **_anchor(state)}


def _phase(state: State) -> dict[str, Any]:
    return {
        "phase": state.phase,
        "attempt_id": state.attempt.attempt_id if state.attempt else "",
        "job_id": state.attempt.job_id if state.attempt else "",
        "pair": state.pair,
        "boot_id": state.boot_id,
        "keeper_pid": state.keeper_pid,
        "trainer_pid": state.trainer_pid,
        "started_boottime_ns": state.started_ns,
        "stop_began_boottime_ns": state.stop_began_ns,
        "stop_reason": state.stop_reason,
        "stop_message": state.stop_message,
        "ended_boottime_ns": state.ended_ns,
        **_anchor(state),
    }
