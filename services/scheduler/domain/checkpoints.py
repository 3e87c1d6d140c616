"""Checkpoints of a job: where each can be read, and which of them another training begins with."""

from collections.abc import Iterable

from protos.training.v1.training_pb2 import Checkpoint, CheckpointReference, ResumeFrom, WeightsSource
from services.scheduler.domain.artifact import CHECKPOINT, Artifact
from services.scheduler.domain.job import Job


def located(job: Job, artifacts: Iterable[Artifact]) -> list[Checkpoint]:
    """The job's checkpoints, oldest first, with what the platform knows of each; `artifacts` are those it has."""
    there = {(one.attempt_id, one.name): one for one in artifacts if one.kind == CHECKPOINT}
    found = []
    for saved in job.checkpoints:
        checkpoint = Checkpoint()
        checkpoint.CopyFrom(saved)
        # A row that an earlier version wrote does not say whose each is.
        newest = saved is job.checkpoints[-1]
        checkpoint.attempt_id = saved.attempt_id or (job.saved_by if newest else job.attempt_id)
        checkpoint.runner_id = saved.runner_id or job.runner_id
        artifact = there.get((checkpoint.attempt_id, checkpoint.name))
        if artifact is not None and artifact.sha256 == checkpoint.sha256:
            checkpoint.artifact_id = artifact.artifact_id
        found.append(checkpoint)
    return found


def best_or_newest(checkpoints: list[Checkpoint]) -> Checkpoint:
    """What a model begins with where nobody says more. `checkpoints` is not empty."""
    return next((one for one in checkpoints if one.best), checkpoints[-1])


def reference(job_id: str, checkpoint: Checkpoint) -> CheckpointReference:
    """`checkpoint` is one of `located`."""
    return CheckpointReference(
        job_id=job_id,
        attempt_id=checkpoint.attempt_id,
        runner_id=checkpoint.runner_id,
        name=checkpoint.name,
        step=checkpoint.step,
        sha256=checkpoint.sha256,
        artifact_id=checkpoint.artifact_id,
    )


def resume_from(job: Job, found: CheckpointReference) -> ResumeFrom:
    """What a new job goes on from: a checkpoint of an earlier job, and what that one had trained by then."""
    return ResumeFrom(
        trained_ms=min(job.trained_at_ms.get(found.name, job.trained_ms), job.trained_ms),
        attempt_id=found.attempt_id,
        checkpoint=found.name,
        step=found.step,
        sha256=found.sha256,
        job_id=found.job_id,
        artifact_id=found.artifact_id,
        runner_id=found.runner_id,
    )


def needed(job: Job) -> CheckpointReference | None:
    """The earlier job's checkpoint that the next attempt begins with; None where it begins with none, or its own."""
    if job.attempt and job.checkpoints:
        return None
    if (origin := job.origin) is not None:
        return CheckpointReference(
            job_id=origin.job_id,
            attempt_id=origin.attempt_id,
            runner_id=origin.runner_id,
            name=origin.checkpoint,
            step=origin.step,
            sha256=origin.sha256,
            artifact_id=origin.artifact_id,
        )
    weights = job.spec.weights
    return weights.checkpoint if weights.source == WeightsSource.WEIGHTS_SOURCE_CHECKPOINT else None


def only_runner_id(found: CheckpointReference | None, lacks: bool = False) -> str:
    """The one runner that can read it; empty: any. `lacks`: the platform has its file no more."""
    if found is None or (found.artifact_id and not lacks):
        return ""
    return found.runner_id
