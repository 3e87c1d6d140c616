"""The platform's end of one session: what is answered, when it is over, and what is said of it.

A pure state machine, `step(state, input, now_ms) -> (state, actions)`; every `_ms` is platform time. Guarantees:

- nothing is acknowledged that was read without a valid lease, and nothing that was read moves the last contact then;
- silence counts from what was read last, whatever became of the stream since;
- a session that a newer one has replaced says and hears nothing more, and is never called disconnected;
- the session is over only when its end is committed or a newer session has taken its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from protos.scheduler.v1 import session_pb2 as pb

# Without a heartbeat for this long a session is over.
SILENCE_MS = 15_000
HELLO_TIMEOUT_MS = 10_000
SILENT = "no heartbeat for 15 s"
CLOSED_BY_AGENT = "the agent closed the session"
REPLACED = "this box has opened a newer session"
ENDED_ELSEWHERE = "the session was ended while this scheduler had no lease; connect again"
KEY_WITHDRAWN = "the runner's secret key was withdrawn; see `tether-runner reauth`"
_MAX_INSTALLATION_ID = 100


class Phase(Enum):
    # Hello is awaited.
    GREETING = "greeting"
    # RunnerConnected is being committed.
    CONNECTING = "connecting"
    LIVE = "live"
    # The stream has ended, the session not yet: the box may come back within its 15 s.
    QUIET = "quiet"
    # Its end is to be committed.
    LEAVING = "leaving"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class State:
    phase: Phase
    # When the stream was opened; from Hello on, when the box was heard last.
    heard_at_ms: int
    # Silence counts from here: the box cannot be heard while its Hello is being committed.
    waiting_since_ms: int = 0
    # Version of RunnerConnected on the runner's stream.
    epoch: int = 0
    leaving: str = ""


def opened(now_ms: int) -> State:
    """The state of a stream that has just been opened."""
    return State(Phase.GREETING, now_ms, now_ms)


# ---- inputs


@dataclass(frozen=True, slots=True)
class Heard:
    """A message was read; `leased` where this process held its lease at that moment."""

    message: pb.ConnectRequest
    leased: bool


@dataclass(frozen=True, slots=True)
class Connected:
    """RunnerConnected is committed. `newest`: no other session of the runner was committed since."""

    welcome: pb.Welcome
    leased: bool
    newest: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """The report is committed, or `rejected` for good."""

    attempt_id: str
    sequence: int
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be so on the box, after a change."""

    directive: pb.Directive


@dataclass(frozen=True, slots=True)
class HalfClosed:
    """The agent has closed its half of the stream: it goes on purpose. `training`: its runner holds an attempt."""

    training: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream has ended, or its box does not read."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """The runner has a session of another epoch."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The log says that the session of this epoch is over: another process took ours for dead."""

    epoch: int


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """The key that opened the session is not valid any more."""


@dataclass(frozen=True, slots=True)
class Draining:
    """This process stops: its boxes come back to another."""

    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """The session's end is committed."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: see `due`."""


Input: TypeAlias = (
    Heard | Connected | Settled | Wanted | HalfClosed | Broken | Replaced | Ended | KeyRefused | Draining | Left | Tick
)


# ---- actions, to be carried out in order


@dataclass(frozen=True, slots=True)
class Connect:
    """Commit RunnerConnected and feed `Connected`."""

    hello: pb.Hello


@dataclass(frozen=True, slots=True)
class Enter:
    """This is the runner's session from now on; the one before it is `Replaced`. Then tell what is `Wanted`."""


@dataclass(frozen=True, slots=True)
class Say:
    message: pb.ConnectResponse


@dataclass(frozen=True, slots=True)
class Commit:
    """Commit the report and feed `Settled`."""

    report: pb.Report


@dataclass(frozen=True, slots=True)
class Suspend:
    """Commit what the box says of its own suspensions."""

    state: pb.SuspensionState


@dataclass(frozen=True, slots=True)
class Answer:
    """Give the answer to whoever asked the box."""

    checked: pb.DatasetChecked


@dataclass(frozen=True, slots=True)
class Refuse:
    """End the stream with an error: the value, and the rule that it breaks."""

    field: str
    value: str
    rule: str


@dataclass(frozen=True, slots=True)
class Postpone:
    """End the stream as one that may be tried again at once: nothing can be promised here now."""


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the stream when all is said."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Commit RunnerDisconnected, and what it means for a training, then feed `Left`."""

    epoch: int
    last_contact_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Forget:
    """The session is over."""


Action: TypeAlias = Connect | Enter | Say | Commit | Suspend | Answer | Refuse | Postpone | Hangup | Disconnect | Forget
Result: TypeAlias = tuple[State, list[Action]]

_BEGUN = frozenset({Phase.LIVE, Phase.QUIET, Phase.LEAVING})
_STREAMING: Mapping[Phase, bool] = {phase: phase in (Phase.GREETING, Phase.CONNECTING, Phase.LIVE) for phase in Phase}


def due(state: State, now_ms: int) -> bool:
    """Whether a Tick would change anything."""
    match state.phase:
        case Phase.GREETING:
            return now_ms - state.heard_at_ms > HELLO_TIMEOUT_MS
        case Phase.LIVE | Phase.QUIET:
            return now_ms - state.waiting_since_ms > SILENCE_MS
    return state.phase is Phase.LEAVING


def step(state: State, item: Input, now_ms: int) -> Result:
    """Apply one input; the actions are to be carried out in order."""
    match item:
        case Heard(message, leased):
            return _heard(state, message, leased, now_ms)
        case Settled(attempt_id, sequence, rejected) if state.phase is Phase.LIVE:
            ack = pb.ReportAck(attempt_id=attempt_id, sequence=sequence, rejected=rejected)
            return state, [Say(pb.ConnectResponse(report_ack=ack))]
        case Wanted(directive) if state.phase is Phase.LIVE:
            return state, [Say(pb.ConnectResponse(directive=directive))]
        case Tick():
            return _tick(state, now_ms)
        case Connected(welcome, leased, newest) if state.phase is Phase.CONNECTING:
            state = replace(state, phase=Phase.LIVE, epoch=welcome.epoch, waiting_since_ms=now_ms)
            if not newest:
                # Its Hello was overtaken by that of another stream.
                return replace(state, phase=Phase.OVER), [*_goodbye(state, REPLACED, reconnect=True), Forget()]
            # The lease is asked again: Welcome is an acknowledgement, and the commit may have taken its time.
            if not leased:
                return replace(state, phase=Phase.QUIET), [Enter(), Postpone(), Hangup()]
            return state, [Say(pb.ConnectResponse(welcome=welcome)), Enter()]
        case Replaced(epoch) if epoch > state.epoch and state.phase is not Phase.OVER:
            return replace(state, phase=Phase.OVER), [*_goodbye(state, REPLACED, reconnect=True), Forget()]
        case Ended(epoch) if epoch == state.epoch and state.phase in _BEGUN:
            return replace(state, phase=Phase.OVER), [*_goodbye(state, ENDED_ELSEWHERE, reconnect=True), Forget()]
        case HalfClosed(training):
            if state.phase is Phase.LIVE and not training:
                return _leave(state, CLOSED_BY_AGENT, [Hangup()])
            return _quiet(state, [Hangup()])
        case Broken():
            return _quiet(state, [Hangup()])
        case KeyRefused() if state.phase is Phase.LIVE:
            return _quiet(state, _goodbye(state, KEY_WITHDRAWN, reconnect=False))
        case Draining(reason) if state.phase is Phase.LIVE:
            return _quiet(state, _goodbye(state, reason, reconnect=True))
        case Left() if state.phase is Phase.LEAVING:
            return replace(state, phase=Phase.OVER), [Forget()]
    return state, []


def _heard(state: State, message: pb.ConnectRequest, leased: bool, now_ms: int) -> Result:
    kind = message.WhichOneof("message")
    if state.phase is Phase.GREETING:
        return _greeted(state, message, kind or "nothing", leased, now_ms)
    if state.phase is not Phase.LIVE:
        # What an older session still says comes again through the newer one.
        return state, []
    if not leased:
        # Another process may call this session lost by now: what it does not hear must not be promised.
        if kind == "heartbeat":
            return state, []
    else:
        state = replace(state, heard_at_ms=now_ms, waiting_since_ms=now_ms)
    match kind:
        case "heartbeat":
            ack = pb.HeartbeatAck(sequence=message.heartbeat.sequence, platform_at_ms=now_ms)
            return state, [Say(pb.ConnectResponse(heartbeat_ack=ack))]
        case "report":
            return state, [Commit(message.report)]
        case "suspension":
            return state, [Suspend(message.suspension)]
        case "dataset_checked":
            return state, [Answer(message.dataset_checked)]
    rule = "after Hello a session carries no such message"
    return _quiet(state, [Refuse("message", kind or "unknown", rule), Hangup()])


def _greeted(state: State, message: pb.ConnectRequest, kind: str, leased: bool, now_ms: int) -> Result:
    hello = message.hello
    refusal = None
    if kind != "hello":
        refusal = Refuse("message", kind, "the first message of a session is Hello, within 10 s")
    elif not 0 < len(hello.installation_id) <= _MAX_INSTALLATION_ID:
        refusal = Refuse("hello.installation_id", hello.installation_id, "it has 1 to 100 characters")
    elif not hello.inventory.gpus:
        rule = "a runner has at least one GPU; see `tether-runner install`"
        refusal = Refuse("hello.inventory.gpus", "none", rule)
    if refusal is not None:
        return replace(state, phase=Phase.OVER), [refusal, Hangup(), Forget()]
    if not leased:
        return replace(state, phase=Phase.OVER), [Postpone(), Hangup(), Forget()]
    return replace(state, phase=Phase.CONNECTING, heard_at_ms=now_ms), [Connect(hello)]


def _tick(state: State, now_ms: int) -> Result:
    if not due(state, now_ms):
        return state, []
    match state.phase:
        case Phase.GREETING:
            rule = "the first message of a session is Hello, within 10 s"
            return replace(state, phase=Phase.OVER), [Refuse("message", "nothing", rule), Hangup(), Forget()]
        case Phase.LEAVING:
            return _leave(state, state.leaving, [])
    return _leave(state, SILENT, _goodbye(state, SILENT, reconnect=True))


def _leave(state: State, reason: str, first: list[Action]) -> Result:
    state = replace(state, phase=Phase.LEAVING, leaving=reason)
    return state, [*first, Disconnect(state.epoch, state.heard_at_ms, reason)]


def _quiet(state: State, actions: list[Action]) -> Result:
    """The stream ends; a session that has begun lasts until its silence is over.

    What is being committed meanwhile may make a session that nobody holds; the driver looks for those.
    """
    match state.phase:
        case Phase.GREETING | Phase.CONNECTING:
            return replace(state, phase=Phase.OVER), [*actions, Forget()]
        case Phase.LIVE:
            return replace(state, phase=Phase.QUIET), actions
    return state, []


def _goodbye(state: State, reason: str, *, reconnect: bool) -> list[Action]:
    if not _STREAMING[state.phase]:
        return []
    goodbye = pb.Goodbye(reason=reason, reconnect=reconnect)
    return [Say(pb.ConnectResponse(goodbye=goodbye)), Hangup()]
