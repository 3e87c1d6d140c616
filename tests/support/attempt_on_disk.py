"""An attempt that has run, as it lies on a box's disk."""

import json
from typing import Any

from protos.scheduler.v1 import session_pb2
from runner_agent.attempts import AttemptFolder
from runner_agent.config import StateFolder

SPOOL_BYTES, LOG_BYTES, CHECKPOINT_BYTES = 1000, 200, 5000


def attempt(
    folder: StateFolder,
    attempt_id: str,
    *,
    best: int = 2,
    saved: int = 3,
    ended: bool = True,
    told: bool = True,
    shipped: bool = True,
) -> AttemptFolder:
    """An attempt that saved checkpoints step-1 … step-`saved`, of which step-`best` was the best."""
    one = AttemptFolder(folder.attempts, attempt_id)
    one.make(session_pb2.Assignment(attempt_id=attempt_id, job_id=f"job-of-{attempt_id}"))
    (one.path / "phase.json").write_text("{}")
    facts: list[dict[str, Any]] = [{"fact": "started"}]
    for step in range(1, saved + 1):
        (one.path / "checkpoints" / f"step-{step}").write_bytes(b"x" * CHECKPOINT_BYTES)
        checkpoint = {"name": f"step-{step}", "step": str(step), "best": step <= best}
        facts.append({"fact": "checkpoint", "checkpoint": checkpoint})
    facts += [{"fact": "ended"}] if ended else []
    (one.path / "facts.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    (one.spool / "trainer.jsonl").write_bytes(b"x" * SPOOL_BYTES)
    (one.spool / "log.jsonl").write_bytes(b"x" * LOG_BYTES)
    one.save_settled(len(facts) if told else len(facts) - 1)
    if shipped:
        one.save_shipped()
    return one


def left(one: AttemptFolder) -> list[str]:
    return sorted(path.name for path in (one.path / "checkpoints").iterdir())
