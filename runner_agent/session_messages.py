"""What the session's state machine hears (inputs), orders (actions) and remembers. Every `_ns` is CLOCK_BOOTTIME."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias

from protos.common.v1 import inventory_pb2
from protos.events.v1 import runner_pb2
from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent.facts import Fact
from runner_agent.keeper_messages import Anchor

SECOND_NS = 1_000_000_000
# Platform time that is known less exactly than this is measured once more before anything is told by it.
UNCERTAIN_NS = SECOND_NS // 2

Owner: TypeAlias = runner_pb2.SuspensionOwner.ValueType


# ---- what is remembered


class LinkPhase(Enum):
    IDLE = "idle"
    # Hello is under way.
    OPENING = "opening"
    LIVE = "live"


class Place(Enum):
    """Where an attempt is."""

    # No keeper has it; it was never started.
    WAITING = "waiting"
    # A keeper was told to start it.
    HANDED = "handed"
    HELD = "held"
    # Its keeper is gone; what is left of it is being swept.
    GONE = "gone"
    # None of its processes is alive.
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Attempt:
    attempt_id: str
    window_ns: int
    place: Place
    pair: str = ""
    stop_asked: bool = False
    job_id: str = ""
    # Facts that are read and not settled, in order.
    facts: tuple[Fact, ...] = ()
    # Sequence of the last fact that was read, sent in this session, settled.
    read: int = 0
    sent: int = 0
    settled: int = 0
    # The anchor of an earlier agent, and the boot that it belongs to. It anchors the facts of that boot.
    old_anchor: Anchor | None = None
    boot_id: str = ""

    @property
    def alive(self) -> bool:
        """Whether a process of it may be alive."""
        return self.place in (Place.HANDED, Place.HELD, Place.GONE)


@dataclass(frozen=True, slots=True)
class Pair:
    """A keeper with its trainer, as its last status line told."""

    pair: str
    phase: str
    ready: bool
    attempt_id: str
    facts: int
    deadline_ns: int = 0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    installation_id: str
    agent_version: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Default window and limits of the session; a test may shorten them."""

    window_ns: int = 900 * SECOND_NS
    heartbeat_interval_ns: int = 5 * SECOND_NS
    welcome_timeout_ns: int = 15 * SECOND_NS
    backoff_base_ns: int = SECOND_NS
    longest_backoff_ns: int = 30 * SECOND_NS
    # After a refusal, in case somebody corrects it.
    refused_backoff_ns: int = 60 * SECOND_NS


@dataclass(frozen=True, slots=True)
class State:
    identity: Identity
    inventory: inventory_pb2.Inventory
    timing: Timing = field(default_factory=Timing)
    link: LinkPhase = LinkPhase.IDLE
    # Number of the current stream; what comes of an earlier one is ignored.
    stream: int = 0
    dial_at_ns: int = 0
    failures: int = 0
    opened_ns: int = 0
    welcome: session_pb2.Welcome | None = None
    interval_ns: int = 0
    next_heartbeat_ns: int = 0
    heartbeat: int = 0
    # Heartbeats without acknowledgement: (sequence, moment of sending).
    outstanding: tuple[tuple[int, int], ...] = ()
    # The last heartbeat of this session that was acknowledged.
    acknowledged: int = 0
    # When the last acknowledgement arrived.
    heard_ns: int = 0
    # When the last message that was acknowledged had been sent: deadlines count from here.
    contact_ns: int = 0
    anchor: Anchor | None = None
    # The last thing that went wrong with the link, one sentence; empty while live.
    error: str = ""
    refused: bool = False
    # What the platform wants; `directed` once it has said so in any session of this process.
    directed: bool = False
    wanted: session_pb2.Assignment | None = None
    adopt: bool = False
    suspended_by_admin: bool = False
    # The box's own suspensions, owner → reason: as they are, and as the current stream was told.
    suspensions: Mapping[Owner, str] = field(default_factory=lambda: MappingProxyType({}))
    told_suspensions: Mapping[Owner, str] = field(default_factory=lambda: MappingProxyType({}))
    attempts: Mapping[str, Attempt] = field(default_factory=lambda: MappingProxyType({}))
    pairs: Mapping[str, Pair] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def knows_the_time(self) -> bool:
        """Whether moments may be told: well enough, or as well as this link allows."""
        return self.anchor is not None and (self.anchor.uncertainty_ns <= UNCERTAIN_NS or self.acknowledged > 0)

    def with_attempt(self, attempt: Attempt) -> "State":
        return replace(self, attempts={**self.attempts, attempt.attempt_id: attempt})

    def without_attempt(self, attempt_id: str) -> "State":
        left = {key: attempt for key, attempt in self.attempts.items() if key != attempt_id}
        return replace(self, attempts=left)


# ---- inputs


@dataclass(frozen=True, slots=True)
class Received:
    stream: int
    message: session_pb2.ConnectResponse


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream has ended. `refused`: the platform does not want this key or this box."""

    stream: int
    reason: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class KeeperSaid:
    pair: Pair


@dataclass(frozen=True, slots=True)
class KeeperGone:
    pair: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """The attempt that `Adopt` asked for, as it lies on disk: WAITING if it was never started, otherwise GONE."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class FactsRead:
    attempt_id: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """No process of the attempt is alive. `started` is False where it had not come to its start."""

    attempt_id: str
    started: bool


@dataclass(frozen=True, slots=True)
class DatasetLooked:
    check_id: str
    report: training_pb2.DatasetReport


@dataclass(frozen=True, slots=True)
class InventoryTaken:
    inventory: inventory_pb2.Inventory


@dataclass(frozen=True, slots=True)
class Suspension:
    """What the box's owner or its health says of the suspension that is theirs; no reason means that it is lifted."""

    owner: Owner
    reason: str | None


@dataclass(frozen=True, slots=True)
class Tick:
    pass


Input: TypeAlias = (
    Received
    | Closed
    | KeeperSaid
    | KeeperGone
    | Adopted
    | FactsRead
    | Swept
    | DatasetLooked
    | InventoryTaken
    | Suspension
    | Tick
)


# ---- actions, to be carried out in order


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a new stream with this Hello; feed what comes of it under this number."""

    stream: int
    hello: session_pb2.Hello


@dataclass(frozen=True, slots=True)
class Hangup:
    stream: int


@dataclass(frozen=True, slots=True)
class Send:
    message: session_pb2.ConnectRequest


@dataclass(frozen=True, slots=True)
class Adopt:
    """Look the attempt up on disk, make its folder if there is none, and feed `Adopted`."""

    assignment: session_pb2.Assignment


@dataclass(frozen=True, slots=True)
class StartAttempt:
    pair: str
    attempt_id: str
    deadline_ns: int
    anchor: Anchor


@dataclass(frozen=True, slots=True)
class Renew:
    pair: str
    deadline_ns: int
    anchor: Anchor


@dataclass(frozen=True, slots=True)
class StopAttempt:
    pair: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RecordEnd:
    """Write down that the attempt, which was never started, has ended, and feed `FactsRead`."""

    attempt_id: str
    outcome: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ReadFacts:
    """Read the facts behind `after` and feed `FactsRead`."""

    attempt_id: str
    after: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """End every process of the attempt, write its end down if nobody did, and feed `FactsRead` and `Swept`."""

    attempt_id: str
    after: int


@dataclass(frozen=True, slots=True)
class SaveSettled:
    attempt_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class NoteRejected:
    attempt_id: str
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class LookAtDataset:
    check_id: str
    dataset: training_pb2.Dataset


@dataclass(frozen=True, slots=True)
class ShipTo:
    """Where spools are to be delivered; empty: to the session's own address."""

    address: str


Action: TypeAlias = (
    Dial
    | Hangup
    | Send
    | Adopt
    | StartAttempt
    | Renew
    | StopAttempt
    | RecordEnd
    | ReadFacts
    | Sweep
    | SaveSettled
    | NoteRejected
    | LookAtDataset
    | ShipTo
)
