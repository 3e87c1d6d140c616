"""A submission's request, or a resumption's, checked and made into the event that tells all of it."""

from collections.abc import Mapping

from protos.events.v1.job_pb2 import JobSubmitted
from protos.scheduler.v1.job_pb2 import ResumeJobRequest, SubmitJobRequest
from protos.training.v1.training_pb2 import (
    Architecture,
    Checkpoint,
    CheckpointReference,
    Dataset,
    InitialWeights,
    Limits,
    ResumeFrom,
    TrainingSpec,
    Workflow,
)
from services.rpc.errors import InvalidField, checked_labels, checked_name
from services.scheduler.checks import check_limits, check_settings, check_workflow
from services.scheduler.domain.checkpoints import resume_from
from services.scheduler.domain.job import Job, evolve
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.placement import limited, resolved
from services.scheduler.domain.runner import Runner

MAX_TEXT = 500
QUEUE_LIFETIME_MS = 24 * 3600 * 1000
_MINUTE_MS = 60_000


def submitted(
    request: SubmitJobRequest,
    workflow: Workflow,
    dataset: Dataset,
    architecture: Architecture,
    architectures: Mapping[str, Architecture],
    checkpoint: CheckpointReference | None,
    runner: Runner | None,
    now_ms: int,
) -> JobSubmitted:
    """The event of a submission; `workflow` is what it is made of, saved or not, and `checkpoint` the one that the
    weights come from. Raises InvalidField."""
    check_settings(request)
    check_workflow(workflow, dataset, architecture, architectures)
    weights = InitialWeights(source=workflow.weights.source, name=workflow.weights.name, checkpoint=checkpoint)
    spec = resolved(
        TrainingSpec(
            dataset=dataset,
            architecture=architecture,
            hyperparameters=workflow.hyperparameters,
            checkpoint_strategy=request.checkpoint_strategy,
            advanced_evaluation=request.advanced_evaluation,
            limits=request.limits,
            augmentations=workflow.augmentations if workflow.HasField("augmentations") else None,
            weights=weights,
            workflow_id=workflow.workflow_id,
            workflow_name=workflow.name,
            workflow_revision=workflow.revision,
        )
    )
    name = workflow.name or f"{dataset.name} {architecture.architecture_id}"
    return JobSubmitted(
        name=checked_name("name", request.name) if request.name else name,
        spec=spec,
        runner_id=runner.runner_id if runner is not None else "",
        labels=checked_labels(request.labels),
        queued=request.queue,
        queue_expires_at_ms=now_ms + QUEUE_LIFETIME_MS if request.queue else 0,
    )


def resumed(
    request: ResumeJobRequest, earlier: Job, checkpoint: CheckpointReference, runner: Runner | None, now_ms: int
) -> JobSubmitted:
    """The event of a job that goes on from a checkpoint of an earlier one. Raises InvalidField."""
    spec = TrainingSpec()
    spec.CopyFrom(earlier.spec)
    spec.resume_from.CopyFrom(resume_from(earlier, checkpoint))
    # Model, optimiser and randomness come from the checkpoint: other weights would be read for nothing.
    spec.ClearField("weights")
    if request.HasField("limits"):
        check_limits(request.limits)
        spec.limits.CopyFrom(limited(request.limits, spec.architecture))
    _check_that_something_is_left(spec.limits, spec.resume_from, earlier)
    return JobSubmitted(
        name=checked_name("name", request.name) if request.name else earlier.name,
        spec=spec,
        runner_id=runner.runner_id if runner is not None else "",
        # Labels said which runners would do; a runner of its own says it more exactly.
        labels=earlier.labels if runner is None else {},
        queued=request.queue,
        queue_expires_at_ms=now_ms + QUEUE_LIFETIME_MS if request.queue else 0,
    )


def _check_that_something_is_left(limits: Limits, begins: ResumeFrom, earlier: Job) -> None:
    """Limits count from the first step of the first job. Raises InvalidField where one is reached already."""
    saved = next((one for one in earlier.checkpoints if one.name == begins.checkpoint), Checkpoint())
    for name, limit, done in (
        # The epoch that a checkpoint lies in may not be complete; the one of the last step is known.
        ("epochs", limits.epochs, earlier.epochs if saved.step == earlier.steps else saved.epoch - 1),
        ("steps", limits.steps, begins.step),
        ("minutes", limits.minutes, begins.trained_ms // _MINUTE_MS),
    ):
        if 0 < limit <= done:
            rule = f"{done} are done already at checkpoint {begins.checkpoint}; set a higher limit to go on from it"
            raise InvalidField(f"limits.{name}", limit, rule)


def first_state(job_id: str, workspace_id: str, event: JobSubmitted) -> Job:
    """The job that the event will make, for deciding on it before it is appended."""
    return evolve(None, event, Envelope(job_id, workspace_id, 1, 0, "", 0))
