"""The checkpoint that an attempt begins with, fetched from the platform where the box has it not."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from protos.training.v1 import training_pb2
from runner_agent import clock
from runner_agent.artifact_calls import AWAY, ArtifactCalls, digest_of, is_final, reason_of
from runner_agent.attempts import ID_PATTERN, INPUTS
from runner_agent.threads import in_daemon_thread
from runner_agent.uploads import NAME

# So long without one more byte, and the attempt fails: nobody waits for ever.
PATIENCE_S = 600.0
LONGEST_BACKOFF_S = 15.0

log = structlog.get_logger()


class InputFailed(Exception):
    """The file cannot be had; one sentence."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file of an earlier attempt."""

    attempt_id: str
    name: str
    sha256: str
    artifact_id: str


def missing(attempts: Path, attempt: Path, spec: training_pb2.TrainingSpec) -> Input | None:
    """What is to be fetched before the attempt starts; None where nothing is, or only a box could have it."""
    if spec.resume_from.attempt_id:
        found = spec.resume_from
        wanted = Input(found.attempt_id, found.checkpoint, found.sha256, found.artifact_id)
    elif spec.weights.HasField("checkpoint"):
        one = spec.weights.checkpoint
        wanted = Input(one.attempt_id, one.name, one.sha256, one.artifact_id)
    else:
        return None
    if not wanted.artifact_id or not NAME.fullmatch(wanted.name) or not ID_PATTERN.fullmatch(wanted.attempt_id):
        return None
    here = (attempts / wanted.attempt_id / "checkpoints" / wanted.name, attempt / INPUTS / wanted.name)
    return None if any(path.exists() for path in here) else wanted


async def fetch(calls: ArtifactCalls, wanted: Input, folder: Path, jitter: Callable[[], float]) -> Path:
    """The file in `folder`, whole and checked; goes on with what an earlier try has brought.

    Raises InputFailed, and OSError where the disk does not take it.
    """
    target, part = folder / wanted.name, folder / f".{wanted.name}.part"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    what = f"the checkpoint {wanted.name} of {wanted.attempt_id}"
    came_ns, have, failures, damaged = clock.boottime_ns(), -1, 0, False
    while True:
        reason = ""
        try:
            await calls.download(wanted.artifact_id, part)
            _, digest = await in_daemon_thread(lambda: digest_of(part))
            if digest == wanted.sha256:
                part.replace(target)
                log.info("checkpoint fetched", name=wanted.name, attempt=wanted.attempt_id)
                return target
            part.unlink()
            if damaged:
                raise InputFailed(f"{what} came from the platform with another content than was saved, twice")
            damaged, reason = True, "it came with another content than was saved"
        except AWAY as error:
            reason = reason_of(error)
            if is_final(error):
                raise InputFailed(f"{what} cannot be fetched from the platform: {reason}") from None
        now_ns, size = clock.boottime_ns(), part.stat().st_size if part.exists() else 0
        if size != have:
            came_ns, have = now_ns, size
        elif now_ns - came_ns > PATIENCE_S * 1e9:
            minutes = f"{PATIENCE_S / 60:g} minutes"
            raise InputFailed(f"{what} could not be fetched from the platform for {minutes}: {reason}")
        if failures == 0:
            log.warning("a checkpoint cannot be fetched now", name=wanted.name, reason=reason)
        failures += 1
        await asyncio.sleep(jitter() * min(LONGEST_BACKOFF_S, 0.5 * 2 ** min(failures, 5)))
