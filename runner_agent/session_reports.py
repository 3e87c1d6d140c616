"""The session's reports: which facts are told next, and which are settled. Pure; a part of `session`."""

from dataclasses import replace

from protos.scheduler.v1 import session_pb2
from runner_agent.facts import Fact, to_report
from runner_agent.keeper_messages import Anchor
from runner_agent.session_messages import Action, Attempt, LinkPhase, NoteRejected, Place, SaveSettled, Send, State

# Reports under way without acknowledgement, of all attempts together.
MOST_UNACKNOWLEDGED = 64

Result = tuple[State, list[Action]]


def send_reports(state: State) -> Result:
    if state.link is not LinkPhase.LIVE or state.anchor is None or not state.knows_the_time:
        return state, []
    actions: list[Action] = []
    room = MOST_UNACKNOWLEDGED - sum(one.sent - one.settled for one in state.attempts.values())
    for attempt in state.attempts.values():
        sent = attempt.sent
        for fact in attempt.facts:
            if fact.sequence <= sent:
                continue
            if room <= 0 or (fact.ended and attempt.place is not Place.OVER):
                break
            anchor = _anchor_of(state.anchor, state, attempt, fact)
            actions.append(
                Send(session_pb2.ConnectRequest(report=to_report(attempt.attempt_id, attempt.job_id, fact, anchor)))
            )
            sent, room = fact.sequence, room - 1
        if sent != attempt.sent:
            state = state.with_attempt(replace(attempt, sent=sent))
    return state, actions


def _anchor_of(now: Anchor, state: State, attempt: Attempt, fact: Fact) -> Anchor:
    if fact.content.get("boot_id") == state.identity.boot_id:
        return now
    # Without one the moment is unknown, and the platform holds it to the earliest that is possible.
    return attempt.old_anchor or Anchor(0, 0)


def report_acknowledged(state: State, ack: session_pb2.ReportAck) -> Result:
    attempt = state.attempts.get(ack.attempt_id)
    if attempt is None or ack.sequence <= attempt.settled:
        return state, []
    settled = min(ack.sequence, attempt.read)
    actions: list[Action] = [SaveSettled(ack.attempt_id, settled)]
    if ack.rejected:
        actions.append(NoteRejected(ack.attempt_id, ack.sequence, ack.rejected))
    left = tuple(fact for fact in attempt.facts if fact.sequence > settled)
    if attempt.place is Place.OVER and not left:
        # Everything is told; what lies on disk answers a later question.
        return state.without_attempt(ack.attempt_id), actions
    return state.with_attempt(replace(attempt, settled=settled, sent=max(attempt.sent, settled), facts=left)), actions


def facts_read(state: State, attempt_id: str, facts: tuple[Fact, ...]) -> State:
    attempt = state.attempts.get(attempt_id)
    if attempt is None:
        return state
    new = tuple(fact for fact in facts if fact.sequence > attempt.read)
    if not new:
        return state
    return state.with_attempt(replace(attempt, facts=(*attempt.facts, *new), read=new[-1].sequence))
