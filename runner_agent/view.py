"""What `status.json` tells of the agent, for `tether-runner status`. Pure."""

from typing import Any

from protos.events.v1 import runner_pb2
from runner_agent.session_messages import LinkPhase, Owner, Place, State


def owner_name(owner: Owner) -> str:
    """`box_owner` or `health`."""
    return runner_pb2.SuspensionOwner.Name(owner).removeprefix("SUSPENSION_OWNER_").lower()


def view(state: State, server: str, backlog_bytes: int) -> dict[str, Any]:
    """Moments are CLOCK_BOOTTIME in nanoseconds."""
    welcome = state.welcome
    held = next((one for one in state.attempts.values() if one.alive or one.place is Place.WAITING), None)
    pair = state.pairs.get(held.pair) if held else None
    attempt = None
    if held is not None:
        attempt = {
            "attempt_id": held.attempt_id,
            "place": held.place.value,
            "phase": pair.phase if pair else "",
            "deadline_boottime_ns": pair.deadline_ns if pair else None,
            "stopping": held.stop_asked,
        }
    return {
        "server": server,
        "connected": state.link is LinkPhase.LIVE,
        "refused": state.refused,
        "error": state.error,
        "runner_id": welcome.runner_id if welcome else "",
        "runner_name": welcome.runner_name if welcome else "",
        "workspace_id": welcome.workspace_id if welcome else "",
        "epoch": welcome.epoch if welcome else 0,
        "boot_id": state.identity.boot_id,
        "last_ack_boottime_ns": state.heard_ns,
        "attempt": attempt,
        "warm": any(pair.ready and not pair.attempt_id for pair in state.pairs.values()),
        "unreported": sum(len(one.facts) for one in state.attempts.values()),
        "unshipped_bytes": backlog_bytes,
        "suspended_by_admin": state.suspended_by_admin,
        "suspensions": {owner_name(owner): reason for owner, reason in sorted(state.suspensions.items())},
        # The platform knows them: Hello or a message of this session told them.
        "suspensions_told": state.link is LinkPhase.LIVE and state.suspensions == state.told_suspensions,
        "gpus": [gpu.type for gpu in state.inventory.gpus],
        "simulated": state.inventory.simulated,
    }
