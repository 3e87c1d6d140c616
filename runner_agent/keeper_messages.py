"""What the keeper hears (inputs) and what it orders (actions). Standard library only; every `_ns` is CLOCK_BOOTTIME."""

from dataclasses import dataclass
from typing import Any, TypeAlias

STOP_GRACE_NS = 30_000_000_000


@dataclass(frozen=True, slots=True)
class Anchor:
    """Platform time (Unix ms) as an acknowledgement told it, and the moment on this box that it belongs to.

    That moment lies between the question and its acknowledgement: their middle, give or take `uncertainty_ns`.
    """

    at_ms: int
    boottime_ns: int
    uncertainty_ns: int = 0


# ---- inputs


@dataclass(frozen=True, slots=True)
class Start:
    """The agent hands over an attempt."""

    attempt_id: str
    job_id: str
    directory: str
    window_ms: int
    deadline_ns: int
    anchor: Anchor
    simulated: bool
    gpu_uuids: tuple[str, ...]
    # So long without getting on, a training counts as stalled; zero: never.
    stall_ns: int = 0
    stop_when_stalled: bool = False


@dataclass(frozen=True, slots=True)
class StartFailed:
    """`CreatePhase` failed: the attempt was started before, or the disk does not take the file."""

    message: str


@dataclass(frozen=True, slots=True)
class Renew:
    """A heartbeat was acknowledged."""

    deadline_ns: int
    anchor: Anchor


@dataclass(frozen=True, slots=True)
class Stop:
    reason: str
    message: str
    grace_ns: int = STOP_GRACE_NS


@dataclass(frozen=True, slots=True)
class Said:
    """The trainer wrote a line on its control pipe."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exited:
    """The trainer is gone. `code` as of waitpid: negative for a signal."""

    code: int
    last_error_line: str
    out_of_memory: bool


@dataclass(frozen=True, slots=True)
class Orphaned:
    """The launcher is gone."""


@dataclass(frozen=True, slots=True)
class Tick:
    pass


Input: TypeAlias = Start | StartFailed | Renew | Stop | Said | Exited | Orphaned | Tick


# ---- actions, to be carried out in order


@dataclass(frozen=True, slots=True)
class Refuse:
    message: str


@dataclass(frozen=True, slots=True)
class CreatePhase:
    """Write the phase file, which must not exist, with fsync. If that fails, drop the rest and feed `StartFailed`."""

    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WritePhase:
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    """The one line for the trainer's standard input."""

    line: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Terminate:
    """SIGTERM to the trainer."""


@dataclass(frozen=True, slots=True)
class KillAll:
    """SIGKILL to the trainer and everything that it spawned."""


@dataclass(frozen=True, slots=True)
class AppendFact:
    fact: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Write that the attempt is alive, with fsync: the last stamp is its end if the box goes down."""

    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Quit:
    """End the keeper as soon as everything durable is written."""


Action: TypeAlias = (
    Refuse | CreatePhase | WritePhase | Release | Terminate | KillAll | AppendFact | WriteOutcome | Stamp | Quit
)
