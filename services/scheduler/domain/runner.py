"""A runner: what it is, how events change it, and the status that follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from google.protobuf.message import Message

from protos.common.v1.inventory_pb2 import Inventory
from protos.events.v1 import runner_pb2 as ev
from protos.events.v1.runner_pb2 import RunnerStatus
from services.scheduler.domain.kinds import Envelope, Owner, Status
from services.scheduler.domain.refusals import RunnerHoldsTraining


@dataclass(frozen=True, slots=True)
class Suspension:
    owner: Owner
    reason: str
    # Zero: until lifted.
    until_ms: int


@dataclass(frozen=True, slots=True)
class Runner:
    runner_id: str
    workspace_id: str
    version: int
    name: str
    created_at_ms: int
    labels: Mapping[str, str] = field(default_factory=dict)
    # The installation that the key is bound to; empty until a box has connected.
    installation_id: str = ""
    # Version of the last RunnerConnected: names the session.
    epoch: int = 0
    connected: bool = False
    # The scheduler process that holds the session.
    replica: str = ""
    agent_version: str = ""
    boot_id: str = ""
    inventory: Inventory | None = None
    # Attempts of which the box's Hello listed a live process and that have not ended since.
    live_attempts: tuple[str, ...] = ()
    suspensions: tuple[Suspension, ...] = ()
    attempt_id: str = ""
    job_id: str = ""
    status: Status = RunnerStatus.RUNNER_STATUS_OFFLINE
    last_contact_at_ms: int = 0
    # Who made a new secret key that the box has not come back with yet, when, and how long the old one works.
    key_made_by: str = ""
    key_made_at_ms: int = 0
    old_key_until_ms: int = 0
    uninstalled: bool = False

    @property
    def placeable(self) -> bool:
        """A new training may start: ONLINE, and no process of an earlier attempt lives on the box."""
        return self.status == RunnerStatus.RUNNER_STATUS_ONLINE and not self.live_attempts


def status_of(connected: bool, suspended: bool, holds_attempt: bool) -> Status:
    """Status is a function of three facts: session, suspension, held attempt."""
    if holds_attempt:
        return RunnerStatus.RUNNER_STATUS_OCCUPIED
    if not connected:
        return RunnerStatus.RUNNER_STATUS_OFFLINE
    return RunnerStatus.RUNNER_STATUS_SUSPENDED if suspended else RunnerStatus.RUNNER_STATUS_ONLINE


def evolve(runner: Runner | None, event: Message, at: Envelope) -> Runner:
    """The runner after an event. Never refuses."""
    if isinstance(event, ev.RunnerRegistered):
        return Runner(at.stream_id, at.workspace_id, at.version, event.name, at.at_ms, dict(event.labels))
    assert runner is not None, "a runner's stream begins with RunnerRegistered"
    runner = replace(runner, version=at.version)
    match event:
        case ev.RunnerConnected():
            return replace(
                runner,
                installation_id=event.installation_id,
                epoch=at.version,
                connected=True,
                replica=event.replica,
                agent_version=event.agent_version,
                boot_id=event.boot_id,
                inventory=event.inventory,
                live_attempts=tuple(event.live_attempts),
                last_contact_at_ms=at.at_ms,
                key_made_by="",
                key_made_at_ms=0,
                old_key_until_ms=0,
            )
        case ev.RunnerDisconnected():
            return replace(runner, connected=False, last_contact_at_ms=event.last_contact_at_ms)
        case ev.RunnerStatusChanged():
            return replace(
                runner,
                status=event.status,
                attempt_id=event.attempt_id,
                job_id=event.job_id,
                live_attempts=tuple(one for one in runner.live_attempts if one != event.ended_attempt_id),
            )
        case ev.RunnerInventoryChanged():
            return replace(runner, inventory=event.inventory)
        case ev.RunnerSuspended():
            others = tuple(s for s in runner.suspensions if s.owner != event.owner)
            return replace(runner, suspensions=(*others, Suspension(event.owner, event.reason, event.until_ms)))
        case ev.RunnerResumed():
            return replace(runner, suspensions=tuple(s for s in runner.suspensions if s.owner != event.owner))
        case ev.RunnerUninstalled():
            return replace(runner, uninstalled=True, connected=False)
        case ev.RunnerSecretKeyRegenerated():
            until_ms = event.old_key_valid_until_ms or at.at_ms
            return replace(runner, key_made_by=at.actor, key_made_at_ms=at.at_ms, old_key_until_ms=until_ms)
    raise AssertionError(f"{event.DESCRIPTOR.name} is not an event of a runner")


def with_status(runner: Runner, events: Sequence[Message], now_ms: int) -> list[Message]:
    """The events, followed by RunnerStatusChanged where the status is another one after them."""
    after = runner
    for event in events:
        after = evolve(after, event, Envelope(runner.runner_id, runner.workspace_id, after.version + 1, now_ms, "", 0))
    status = status_of(after.connected, bool(after.suspensions), bool(after.attempt_id))
    if status == runner.status:
        return list(events)
    return [*events, status_changed(runner, status, after.attempt_id, after.job_id)]


def status_changed(runner: Runner, status: Status, attempt_id: str, job_id: str) -> ev.RunnerStatusChanged:
    return ev.RunnerStatusChanged(status=status, previous=runner.status, attempt_id=attempt_id, job_id=job_id)


def occupied(runner: Runner, attempt_id: str, job_id: str) -> ev.RunnerStatusChanged:
    """The runner takes an attempt."""
    return status_changed(runner, RunnerStatus.RUNNER_STATUS_OCCUPIED, attempt_id, job_id)


def released(runner: Runner) -> ev.RunnerStatusChanged:
    """The runner's attempt is over for the platform; what lives on the box is told by its next Hello."""
    return status_changed(runner, status_of(runner.connected, bool(runner.suspensions), False), "", "")


def ended_on_box(runner: Runner, attempt_id: str) -> list[Message]:
    """The box says that no process of the attempt lives: it holds it no more, and need not be asked again."""
    if runner.attempt_id == attempt_id:
        changed = released(runner)
    elif attempt_id in runner.live_attempts:
        changed = status_changed(runner, runner.status, runner.attempt_id, runner.job_id)
    else:
        return []
    changed.ended_attempt_id = attempt_id
    return [changed]


def suspend(runner: Runner, owner: Owner, reason: str, until_ms: int, now_ms: int) -> list[Message]:
    if Suspension(owner, reason, until_ms) in runner.suspensions:
        return []
    return with_status(runner, [ev.RunnerSuspended(owner=owner, reason=reason, until_ms=until_ms)], now_ms)


def lift_expired(runner: Runner, now_ms: int) -> list[Message]:
    """Suspensions that were for a time end by themselves."""
    over = [s for s in runner.suspensions if s.until_ms and s.until_ms <= now_ms]
    return with_status(runner, [ev.RunnerResumed(owner=s.owner) for s in over], now_ms) if over else []


def uninstall(runner: Runner, reason: str, now_ms: int) -> list[Message]:
    """Take the runner out of the platform. Raises RunnerHoldsTraining."""
    if runner.uninstalled:
        return []
    if runner.attempt_id:
        raise RunnerHoldsTraining(runner.runner_id, runner.name, runner.job_id)
    return with_status(runner, [ev.RunnerUninstalled(reason=reason)], now_ms)


def resume(runner: Runner, owner: Owner, now_ms: int) -> list[Message]:
    if all(suspension.owner != owner for suspension in runner.suspensions):
        return []
    return with_status(runner, [ev.RunnerResumed(owner=owner)], now_ms)
