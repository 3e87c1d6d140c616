"""A runner's session: it begins with Hello, and ends when nothing is heard."""

from collections.abc import Sequence

from google.protobuf.message import Message

from protos.events.v1 import runner_pb2 as ev
from protos.events.v1.runner_pb2 import SuspensionOwner
from protos.scheduler.v1.session_pb2 import Hello, SuspensionState
from services.scheduler.domain import attempt
from services.scheduler.domain.job import Job
from services.scheduler.domain.refusals import HeldByAnotherInstallation
from services.scheduler.domain.runner import Runner, with_status

_OF_THE_BOX = (SuspensionOwner.SUSPENSION_OWNER_BOX_OWNER, SuspensionOwner.SUSPENSION_OWNER_HEALTH)


def connect(
    runner: Runner, job: Job | None, hello: Hello, replica: str, now_ms: int
) -> tuple[Sequence[Message], Sequence[Message]]:
    """Events of the runner and of the job that it holds. The first runner event is RunnerConnected: the new epoch.

    For the same installation the newest session wins. Raises HeldByAnotherInstallation for a copied key.
    """
    if runner.installation_id and runner.installation_id != hello.installation_id:
        holder = runner.inventory.hostname if runner.inventory is not None else "another box"
        raise HeldByAnotherInstallation(runner.runner_id, runner.name, holder)
    events: list[Message] = [
        ev.RunnerConnected(
            installation_id=hello.installation_id,
            agent_version=hello.agent_version,
            boot_id=hello.boot_id,
            inventory=hello.inventory,
            replica=replica,
            live_attempts=hello.live_attempts,
        )
    ]
    if runner.inventory is not None and _hardware(runner.inventory) != _hardware(hello.inventory):
        events.append(ev.RunnerInventoryChanged(inventory=hello.inventory))
    events += _suspensions(runner, hello.suspension)
    job_events = attempt.reached_again(job, now_ms) if job is not None else []
    return with_status(runner, events, now_ms), job_events


def disconnect(
    runner: Runner, job: Job | None, epoch: int, last_contact_ms: int, reason: str, now_ms: int
) -> tuple[Sequence[Message], Sequence[Message]]:
    """Events of the runner and of its job where the session of `epoch` is the last one; otherwise none."""
    if not runner.connected or runner.epoch != epoch:
        return [], []
    gone = ev.RunnerDisconnected(epoch=epoch, last_contact_at_ms=last_contact_ms, reason=reason)
    job_events = attempt.cut_off(job, runner, last_contact_ms) if job is not None else []
    return with_status(runner, [gone], now_ms), job_events


def box_suspensions(runner: Runner, epoch: int, state: SuspensionState, now_ms: int) -> list[Message]:
    """What changed of the suspensions that the box itself decides; a session that a newer one replaced says nothing."""
    if runner.epoch != epoch:
        return []
    events = _suspensions(runner, state)
    return with_status(runner, events, now_ms) if events else []


def _suspensions(runner: Runner, state: SuspensionState) -> list[Message]:
    wanted = {s.owner: s.reason for s in state.suspensions if s.owner in _OF_THE_BOX}
    held = {s.owner: s.reason for s in runner.suspensions if s.owner in _OF_THE_BOX}
    return [
        *(ev.RunnerSuspended(owner=o, reason=r) for o, r in wanted.items() if held.get(o) != r),
        *(ev.RunnerResumed(owner=o) for o in held if o not in wanted),
    ]


def _hardware(inventory: Message) -> bytes:
    """What does not change by itself: everything but the free disk."""
    same = type(inventory)()
    same.CopyFrom(inventory)
    same.ClearField("disk_free_bytes")
    return same.SerializeToString(deterministic=True)
