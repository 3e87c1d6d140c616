"""Sends checkpoints to the platform in the background: one at a time, the newest best first, again after every outage.

It never holds up a training: whatever goes wrong is logged, once for each cause, and tried again.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog

from protos.metrics.v1 import artifact_pb2 as pb
from runner_agent.artifact_calls import AWAY, ArtifactCalls, Refused, Vanished, digest_of, reason_of
from runner_agent.attempts import AttemptFolder, all_told
from runner_agent.threads import in_daemon_thread
from runner_agent.uploads import DONE_FILE, Checkpoint, UploadRecord, wanted

LOOK_INTERVAL_S = 1.0
LONGEST_BACKOFF_S = 60.0
MOST_DOUBLINGS = 6

log = structlog.get_logger()


class _Lane:
    """One attempt whose checkpoints are sent."""

    def __init__(self, attempt: AttemptFolder) -> None:
        self.attempt = attempt
        self.job_id = attempt.assignment().job_id
        self.record = UploadRecord(attempt.path)
        self._seen: tuple[int, int] = (-1, -1)
        self._wanted: list[Checkpoint] = []
        # As of the last look: nothing more comes.
        self.told = False
        # Name → failed tries, in this process.
        self.failures: dict[str, int] = {}

    def open(self) -> list[Checkpoint]:
        """What is to be sent, in order. Files that are gone were dropped by the training, or pruned."""
        seen = (_size(self.attempt.path / "facts.jsonl"), self.attempt.settled())
        if seen != self._seen:
            facts = self.attempt.facts()
            self._wanted, self.told = wanted(facts, seen[1]), all_told(facts, seen[1])
            self._seen = seen
        return [one for one in self._wanted if not self.record.settles(one.name) and self.path_of(one).exists()]

    def path_of(self, checkpoint: Checkpoint) -> Path:
        return self.attempt.path / "checkpoints" / checkpoint.name


class Uploader:
    """`hold` attempts, newest last; `run` until cancelled."""

    def __init__(self, calls: ArtifactCalls, jitter: Callable[[], float], *, enabled: bool) -> None:
        self._calls, self._jitter, self._enabled = calls, jitter, enabled
        self._lanes: dict[str, _Lane] = {}
        self._told = ""
        self._failures = 0

    def hold(self, attempt: AttemptFolder) -> None:
        """Send this attempt's checkpoints from now on. Raises OSError where that cannot be noted on the disk."""
        if self._enabled and attempt.attempt_id not in self._lanes:
            lane = _Lane(attempt)
            if not lane.record.exists:
                lane.record.save()
            self._lanes[attempt.attempt_id] = lane

    def take_up(self, attempt: AttemptFolder) -> None:
        """Go on with an attempt of an earlier agent, where that agent sent its checkpoints."""
        if UploadRecord(attempt.path).exists and not (attempt.path / DONE_FILE).exists():
            with contextlib.suppress(OSError):
                self.hold(attempt)

    async def run(self) -> None:
        while True:
            found = self._next() if self._calls.ready else None
            if found is None:
                await asyncio.sleep(LOOK_INTERVAL_S)
                continue
            lane, checkpoint = found
            try:
                await self._send(lane, checkpoint)
                self._failures, self._told = 0, ""
            except (*AWAY, OSError) as error:
                lane.failures[checkpoint.name] = lane.failures.get(checkpoint.name, 0) + 1
                self._say(reason_of(error))
                if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    await self._look_at(lane, checkpoint)
                cap_s = min(LONGEST_BACKOFF_S, 2 ** min(self._failures, MOST_DOUBLINGS))
                self._failures += 1
                await asyncio.sleep(self._jitter() * cap_s)

    def _next(self) -> tuple[_Lane, Checkpoint] | None:
        """Of the newest attempt first; what has failed comes after the others."""
        found: list[tuple[int, _Lane, Checkpoint]] = []
        for lane in reversed(self._lanes.values()):
            for checkpoint in lane.open():
                found.append((lane.failures.get(checkpoint.name, 0), lane, checkpoint))
        for lane in [lane for lane in self._lanes.values() if not any(one is lane for _, one, _ in found)]:
            self._finish(lane)
        if not found:
            return None
        _, lane, checkpoint = min(found, key=lambda one: one[0])
        return lane, checkpoint

    def _finish(self, lane: _Lane) -> None:
        """Let go of an attempt to which nothing more comes."""
        if lane.told:
            with contextlib.suppress(OSError):
                (lane.attempt.path / DONE_FILE).touch()
                del self._lanes[lane.attempt.attempt_id]

    async def _send(self, lane: _Lane, checkpoint: Checkpoint) -> None:
        header = pb.UploadHeader(
            attempt_id=lane.attempt.attempt_id,
            job_id=lane.job_id,
            kind=pb.ARTIFACT_KIND_CHECKPOINT,
            name=checkpoint.name,
            bytes=checkpoint.bytes,
            sha256=checkpoint.sha256,
            step=checkpoint.step,
        )
        try:
            artifact = await self._calls.upload(header, lane.path_of(checkpoint))
            lane.record.stored[checkpoint.name] = artifact.artifact_id
            log.info("checkpoint uploaded", attempt=lane.attempt.attempt_id, name=checkpoint.name)
        except Refused as error:
            self._refuse(lane, checkpoint, str(error))
        except (Vanished, FileNotFoundError):
            return
        self._save(lane)

    async def _look_at(self, lane: _Lane, checkpoint: Checkpoint) -> None:
        """The platform got another file than was told: is it damaged here, sending it again is of no use."""
        try:
            found = await in_daemon_thread(lambda: digest_of(lane.path_of(checkpoint)))
        except OSError:
            return
        if found != (checkpoint.bytes, checkpoint.sha256):
            self._refuse(lane, checkpoint, "the file on the box is not what the training has saved; it is damaged")
            self._save(lane)

    def _refuse(self, lane: _Lane, checkpoint: Checkpoint, reason: str) -> None:
        lane.record.refused[checkpoint.name] = reason
        log.warning(
            "a checkpoint will not be uploaded", attempt=lane.attempt.attempt_id, name=checkpoint.name, reason=reason
        )

    def _save(self, lane: _Lane) -> None:
        # On a full disk it is asked for again by the next agent, and answered at once.
        with contextlib.suppress(OSError):
            lane.record.save()

    def _say(self, reason: str) -> None:
        if reason != self._told:
            log.warning("checkpoints cannot be uploaded now", reason=reason)
            self._told = reason


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
