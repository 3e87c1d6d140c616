"""The session's rules on the box: when to dial, what to tell, which attempt to start and to stop.

A pure state machine, `step(state, input, now_ns, jitter) -> (state, actions)`; `jitter` is uniform in [0, 1).
Guarantees:

- reports of an attempt are sent in order, and again after a reconnect until they are acknowledged; the end of an
  attempt is only told when none of its processes is alive;
- deadlines count from the sending of the last acknowledged message;
- an attempt that was ever handed to a keeper is not handed to another, unless the sweep has found that it never
  came to its start; one attempt at a time;
- the box's suspensions are in every Hello, and every change of them is told while the session lasts;
- a stream without acknowledgement for three heartbeat intervals is abandoned.
"""

from dataclasses import replace

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.keeper_messages import Anchor
from runner_agent.session_messages import (
    Action,
    Adopt,
    Adopted,
    Attempt,
    Closed,
    DatasetLooked,
    Dial,
    FactsRead,
    Hangup,
    Input,
    InventoryTaken,
    KeeperGone,
    KeeperSaid,
    LinkPhase,
    LookAtDataset,
    Pair,
    Place,
    ReadFacts,
    Received,
    RecordEnd,
    Renew,
    Send,
    ShipTo,
    StartAttempt,
    State,
    StopAttempt,
    Suspension,
    Sweep,
    Swept,
    Tick,
)
from runner_agent.session_reports import Result, facts_read, report_acknowledged, send_reports

SILENT_INTERVALS = 3
MOST_DOUBLINGS = 10
# Two clocks move apart by one part in this many at most: the 2 % that the platform adds to the window.
DRIFT = 50


def step(state: State, item: Input, now_ns: int, jitter: float) -> Result:
    """Apply one input; the actions are to be carried out in order. `now_ns` must not go backwards."""
    match item:
        case Received(stream, message):
            if stream != state.stream or state.link is LinkPhase.IDLE:
                return state, []
            state, actions = _received(state, message, now_ns, jitter)
        case Closed(stream, reason, refused):
            if stream != state.stream or state.link is LinkPhase.IDLE:
                return state, []
            return _lost(state, reason, now_ns, jitter, refused=refused), []
        case KeeperSaid(pair):
            state, actions = _keeper_said(state, pair)
        case KeeperGone(pair_id):
            state, actions = _keeper_gone(state, pair_id)
        case Adopted(attempt):
            if attempt.attempt_id in state.attempts:
                return state, []
            state = state.with_attempt(attempt)
            if attempt.old_anchor is not None and attempt.boot_id == state.identity.boot_id:
                state = replace(state, anchor=_better_anchor(state.anchor, attempt.old_anchor))
            actions = [Sweep(attempt.attempt_id, attempt.read)] if attempt.place is Place.GONE else []
        case FactsRead(attempt_id, facts):
            state, actions = facts_read(state, attempt_id, facts), []
        case Swept(attempt_id, started):
            state, actions = _swept(state, attempt_id, started), []
        case DatasetLooked(check_id, report):
            checked = session_pb2.DatasetChecked(check_id=check_id, report=report)
            live = state.link is LinkPhase.LIVE
            return state, [Send(session_pb2.ConnectRequest(dataset_checked=checked))] if live else []
        case InventoryTaken(inventory):
            return replace(state, inventory=inventory), []
        case Suspension(owner, reason):
            others = {key: value for key, value in state.suspensions.items() if key != owner}
            state = replace(state, suspensions=others if reason is None else {**others, owner: reason})
            actions = []
        case Tick():
            state, actions = _tick(state, now_ns, jitter)
    state, more = _reconcile(state, now_ns)
    state, reports = send_reports(state)
    state, suspensions = _tell_suspensions(state)
    return state, [*actions, *more, *reports, *suspensions]


def wake_at_ns(state: State) -> int:
    """The moment at which a Tick is due."""
    match state.link:
        case LinkPhase.IDLE:
            moments = [state.dial_at_ns]
        case LinkPhase.OPENING:
            moments = [state.opened_ns + _patience_ns(state)]
        case LinkPhase.LIVE:
            moments = [state.next_heartbeat_ns, state.heard_ns + SILENT_INTERVALS * state.interval_ns]
    moments += [_deadline_ns(state, one) for one in state.attempts.values() if one.place is Place.WAITING]
    return min(moments)


# ---- the link


def _tick(state: State, now_ns: int, jitter: float) -> Result:
    match state.link:
        case LinkPhase.IDLE if now_ns >= state.dial_at_ns:
            state = replace(state, link=LinkPhase.OPENING, stream=state.stream + 1, opened_ns=now_ns)
            state = replace(state, told_suspensions=state.suspensions)
            return state, [Dial(state.stream, _hello(state))]
        case LinkPhase.OPENING if now_ns >= state.opened_ns + _patience_ns(state):
            reason = "the platform did not answer Hello"
            return _lost(state, reason, now_ns, jitter), [Hangup(state.stream)]
        case LinkPhase.LIVE if now_ns >= state.heard_ns + SILENT_INTERVALS * state.interval_ns:
            silence_s = SILENT_INTERVALS * state.interval_ns / 1e9
            reason = f"the platform did not acknowledge a heartbeat for {silence_s:g} s"
            return _lost(state, reason, now_ns, jitter), [Hangup(state.stream)]
        case LinkPhase.LIVE if now_ns >= state.next_heartbeat_ns:
            sequence = state.heartbeat + 1
            due_ns = state.next_heartbeat_ns + state.interval_ns
            state = replace(
                state,
                heartbeat=sequence,
                outstanding=(*state.outstanding, (sequence, now_ns)),
                # A box that slept does not make up for the heartbeats that it missed.
                next_heartbeat_ns=due_ns if due_ns > now_ns else now_ns + state.interval_ns,
            )
            return state, [Send(session_pb2.ConnectRequest(heartbeat=session_pb2.Heartbeat(sequence=sequence)))]
    return state, []


def _hello(state: State) -> session_pb2.Hello:
    identity = state.identity
    return session_pb2.Hello(
        installation_id=identity.installation_id,
        agent_version=identity.agent_version,
        boot_id=identity.boot_id,
        inventory=state.inventory,
        live_attempts=[attempt.attempt_id for attempt in state.attempts.values() if attempt.alive],
        suspension=_suspension_state(state),
    )


def _suspension_state(state: State) -> session_pb2.SuspensionState:
    held = sorted(state.suspensions.items())
    return session_pb2.SuspensionState(
        suspensions=[session_pb2.BoxSuspension(owner=owner, reason=reason) for owner, reason in held]
    )


def _tell_suspensions(state: State) -> Result:
    """All of them on every change; a change while Hello was under way is told after Welcome."""
    if state.link is not LinkPhase.LIVE or state.suspensions == state.told_suspensions:
        return state, []
    told = Send(session_pb2.ConnectRequest(suspension=_suspension_state(state)))
    return replace(state, told_suspensions=state.suspensions), [told]


def _lost(state: State, reason: str, now_ns: int, jitter: float, *, refused: bool = False) -> State:
    """Full jitter: anything between at once and the cap, so that thousands of boxes do not come back together."""
    delay_ns = state.timing.refused_backoff_ns if refused else int(jitter * _backoff_ns(state))
    return replace(
        state,
        link=LinkPhase.IDLE,
        dial_at_ns=now_ns + delay_ns,
        failures=state.failures + 1,
        outstanding=(),
        error=reason,
        refused=refused,
    )


def _backoff_ns(state: State) -> int:
    timing = state.timing
    windows = [attempt.window_ns for attempt in state.attempts.values() if attempt.alive]
    cap_ns = min(timing.longest_backoff_ns, min(windows, default=timing.window_ns) // 10)
    return min(cap_ns, timing.backoff_base_ns << min(state.failures, MOST_DOUBLINGS))


def _patience_ns(state: State) -> int:
    """How long Welcome is awaited: longer with each failure.

    A platform to which thousands come back at once is slow to answer; who hangs up and asks anew makes it slower.
    """
    return state.timing.welcome_timeout_ns + (_backoff_ns(state) if state.failures else 0)


def _received(state: State, message: session_pb2.ConnectResponse, now_ns: int, jitter: float) -> Result:
    kind = message.WhichOneof("message")
    if kind == "goodbye":
        reason = message.goodbye.reason or "the platform ended the session"
        state = _lost(state, reason, now_ns, jitter, refused=not message.goodbye.reconnect)
        return state, [Hangup(state.stream)]
    if kind == "welcome":
        return _welcomed(state, message.welcome, now_ns) if state.link is LinkPhase.OPENING else (state, [])
    if state.link is not LinkPhase.LIVE:
        return state, []
    match kind:
        case "heartbeat_ack":
            return _acknowledged(state, message.heartbeat_ack, now_ns)
        case "report_ack":
            return report_acknowledged(state, message.report_ack)
        case "directive":
            directive = message.directive
            wanted = directive.attempt if directive.HasField("attempt") else None
            unknown = wanted is not None and wanted.attempt_id not in state.attempts
            state = replace(state, directed=True, wanted=wanted, adopt=unknown)
            return replace(state, suspended_by_admin=directive.suspended_by_admin), []
        case "check_dataset":
            return state, [LookAtDataset(message.check_dataset.check_id, message.check_dataset.dataset)]
    return state, []


def _welcomed(state: State, welcome: session_pb2.Welcome, now_ns: int) -> Result:
    interval_ns = welcome.heartbeat_interval_ms * 1_000_000 or state.timing.heartbeat_interval_ns
    state = replace(
        state,
        link=LinkPhase.LIVE,
        welcome=welcome,
        interval_ns=interval_ns,
        next_heartbeat_ns=now_ns + interval_ns,
        heartbeat=0,
        acknowledged=0,
        outstanding=(),
        error="",
        refused=False,
        attempts={one.attempt_id: replace(one, sent=one.settled) for one in state.attempts.values()},
    )
    state, renewals = _contact(state, state.opened_ns, welcome.platform_at_ms, now_ns)
    if not state.knows_the_time:
        # Welcome was long under way: a heartbeat at once tells platform time better.
        state = replace(state, next_heartbeat_ns=now_ns)
    return state, [ShipTo(welcome.ingest_address), *renewals]


def _acknowledged(state: State, ack: session_pb2.HeartbeatAck, now_ns: int) -> Result:
    sent_ns = dict(state.outstanding).get(ack.sequence)
    if sent_ns is None:
        return state, []
    left = tuple(one for one in state.outstanding if one[0] > ack.sequence)
    state = replace(state, outstanding=left, failures=0, acknowledged=ack.sequence)
    return _contact(state, sent_ns, ack.platform_at_ms, now_ns)


def _contact(state: State, sent_ns: int, platform_at_ms: int, now_ns: int) -> Result:
    anchor = _better_anchor(state.anchor, Anchor(platform_at_ms, (sent_ns + now_ns) // 2, (now_ns - sent_ns) // 2))
    state = replace(state, heard_ns=now_ns, contact_ns=max(state.contact_ns, sent_ns), anchor=anchor)
    running = [one for one in state.attempts.values() if one.place in (Place.HANDED, Place.HELD)]
    return state, [Renew(one.pair, _deadline_ns(state, one), anchor) for one in running]


def _better_anchor(old: Anchor | None, new: Anchor) -> Anchor:
    """The one that tells platform time more exactly by now: an acknowledgement may have been under way for long."""
    if old is None:
        return new
    age_ns = new.boottime_ns - old.boottime_ns
    known_ns = old.uncertainty_ns + abs(age_ns) // DRIFT
    # Where they contradict each other the box's clock has stood still, as a paused guest's does.
    contradiction_ns = abs((new.at_ms - old.at_ms) * 1_000_000 - age_ns)
    if contradiction_ns > known_ns + new.uncertainty_ns + 1_000_000:
        return max(old, new, key=lambda one: one.boottime_ns)
    return new if new.uncertainty_ns <= known_ns else old


def _deadline_ns(state: State, attempt: Attempt) -> int:
    return state.contact_ns + attempt.window_ns


# ---- keepers and attempts


def _keeper_said(state: State, pair: Pair) -> Result:
    state = replace(state, pairs={**state.pairs, pair.pair: pair})
    actions: list[Action] = []
    for attempt in state.attempts.values():
        if attempt.place is Place.HANDED and attempt.pair == pair.pair:
            if pair.refused and pair.attempt_id != attempt.attempt_id:
                # Taken by nobody: another pair may have it.
                state = state.with_attempt(replace(attempt, place=Place.WAITING, pair=""))
            elif pair.refused:
                message = f"the training could not be started on the box: {pair.refused}"
                state, actions = _record_end(state, attempt, "FAILED", "END_REASON_INFRASTRUCTURE", message)
            elif pair.attempt_id == attempt.attempt_id:
                state = state.with_attempt(replace(attempt, place=Place.HELD))
        elif attempt.place is Place.GONE and pair.attempt_id == attempt.attempt_id and pair.phase != "ended":
            # Its keeper had only not answered in time.
            state = state.with_attempt(replace(attempt, place=Place.HELD, pair=pair.pair))
    held = state.attempts.get(pair.attempt_id)
    if held is not None and held.pair == pair.pair and pair.facts > held.read:
        actions.append(ReadFacts(held.attempt_id, held.read))
    return state, actions


def _keeper_gone(state: State, pair_id: str) -> Result:
    state = replace(state, pairs={key: pair for key, pair in state.pairs.items() if key != pair_id})
    actions: list[Action] = []
    for attempt in state.attempts.values():
        if attempt.pair == pair_id and attempt.place in (Place.HANDED, Place.HELD):
            state = state.with_attempt(replace(attempt, place=Place.GONE))
            actions.append(Sweep(attempt.attempt_id, attempt.read))
    return state, actions


def _swept(state: State, attempt_id: str, started: bool) -> State:
    attempt = state.attempts.get(attempt_id)
    if attempt is None or attempt.place is not Place.GONE:
        return state
    place = Place.OVER if started else Place.WAITING
    return state.with_attempt(replace(attempt, place=place, pair=""))


def _reconcile(state: State, now_ns: int) -> Result:
    """Make it so that what the platform wants is what runs."""
    actions: list[Action] = []
    wanted = state.wanted
    if not state.directed:
        return state, actions
    if wanted is not None and state.adopt:
        state = replace(state, adopt=False)
        actions.append(Adopt(wanted))
    for attempt in state.attempts.values():
        reason, message = _stop_order(attempt, wanted)
        more: list[Action] = []
        if reason and attempt.place is Place.WAITING:
            state, more = _record_end(state, attempt, "KILLED", reason, message)
        elif reason and attempt.place in (Place.HANDED, Place.HELD) and not attempt.stop_asked:
            state = state.with_attempt(replace(attempt, stop_asked=True))
            more = [StopAttempt(attempt.pair, reason, message)]
        elif not reason and attempt.place is Place.WAITING:
            state, more = _start(state, attempt, now_ns)
        actions += more
    return state, actions


def _stop_order(attempt: Attempt, wanted: session_pb2.Assignment | None) -> tuple[str, str]:
    if wanted is None or wanted.attempt_id != attempt.attempt_id:
        return "END_REASON_STOPPED_BY_PERSON", "the platform no longer wants this training to run"
    if wanted.stop_reason == training_pb2.END_REASON_UNSPECIFIED:
        return "", ""
    number = training_pb2.EndReason.DESCRIPTOR.values_by_number.get(wanted.stop_reason)
    return number.name if number else "END_REASON_STOPPED_BY_PERSON", wanted.stop_message


def _start(state: State, attempt: Attempt, now_ns: int) -> Result:
    """Hand a waiting attempt to a warm pair, unless it is too late or another one may still be alive."""
    deadline_ns = _deadline_ns(state, attempt)
    if now_ns >= deadline_ns:
        message = "the connection to the platform was lost before the training could start"
        return _record_end(state, attempt, "KILLED", "END_REASON_CONNECTION_LOST", message)
    anchor = state.anchor
    if anchor is None or any(other.alive for other in state.attempts.values()):
        return state, []
    free = [pair for pair in state.pairs.values() if pair.phase == "warm" and not pair.attempt_id]
    if not free:
        return state, []
    pair = max(free, key=lambda one: one.ready)
    state = state.with_attempt(replace(attempt, place=Place.HANDED, pair=pair.pair, stop_asked=False))
    return state, [StartAttempt(pair.pair, attempt.attempt_id, deadline_ns, anchor)]


def _record_end(state: State, attempt: Attempt, outcome: str, reason: str, message: str) -> Result:
    state = state.with_attempt(replace(attempt, place=Place.OVER, pair=""))
    return state, [RecordEnd(attempt.attempt_id, outcome, reason, message)]
