"""Which box makes which export. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# How long a box that says nothing more keeps what it has taken.
CLAIM_MS = 30_000
# The box that has the checkpoint itself gets so long before another one, which has to fetch it first.
PREFERENCE_MS = 5_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """An export that is not made yet."""

    artifact_id: str
    workspace_id: str
    # The box whose attempt saved the checkpoint.
    origin: str
    # Whether the platform has the checkpoint, so that any box can make it.
    anywhere: bool
    created_at_ms: int
    claimed_by: str
    claimed_until_ms: int


def takers(waiting: Sequence[Waiting], boxes: Mapping[str, str], now_ms: int) -> dict[str, str]:
    """Export → the box that is to make it, of those that are connected here (`boxes`: runner → workspace).

    A box that has taken one keeps it as long as it is connected somewhere.
    """
    found: dict[str, str] = {}
    load = Counter(one.claimed_by for one in waiting)
    for one in waiting:
        if one.claimed_by in boxes:
            found[one.artifact_id] = one.claimed_by
        elif one.claimed_by and one.claimed_until_ms > now_ms:
            continue
        elif one.origin in boxes:
            found[one.artifact_id] = one.origin
        elif one.anywhere and now_ms >= one.created_at_ms + PREFERENCE_MS:
            others = [runner for runner, workspace in boxes.items() if workspace == one.workspace_id]
            if others:
                chosen = min(others, key=lambda runner: (load[runner], runner))
                load[chosen] += 1
                found[one.artifact_id] = chosen
    return found
