"""platform.json: which processes make up the running platform. Others read it; the next start cleans up by it."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.files import write_private
from deploy.local.process import ProcessIdentity


@dataclass(frozen=True)
class ProcessState:
    """One process of the platform; `identity` is None between a death and the next start.

    `unavailable` says why a process that the platform can do without does not run here; empty for all others.
    """

    name: str
    address: str
    log: str
    restarts: int
    identity: ProcessIdentity | None
    unavailable: str = ""


@dataclass(frozen=True)
class PlatformState:
    """`phase` is `starting`, `running` or `stopping`."""

    phase: str
    supervisor: ProcessIdentity
    processes: tuple[ProcessState, ...]

    def save(self, file: Path) -> None:
        write_private(file, json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def load(file: Path) -> "PlatformState | None":
        """The last state that was written; None if there is none, or if it is not ours to understand."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
            raw = json.loads(file.read_text())
            processes = tuple(
                ProcessState(**{**process, "identity": _identity(process["identity"])}) for process in raw["processes"]
            )
            return PlatformState(raw["phase"], ProcessIdentity(**raw["supervisor"]), processes)
        return None


def running(file: Path) -> PlatformState | None:
    """The state of the platform if its supervisor lives."""
    state = PlatformState.load(file)
    return state if state is not None and state.supervisor.alive() else None


def _identity(raw: dict[str, str] | None) -> ProcessIdentity | None:
    return None if raw is None else ProcessIdentity(int(raw["pid"]), int(raw["start_ticks"]), raw["boot_id"])
