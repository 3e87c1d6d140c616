"""A submission's request, checked and made into the event that tells all of it."""

from protos.events.v1.job_pb2 import JobSubmitted
from protos.scheduler.v1.job_pb2 import SubmitJobRequest
from protos.training.v1.training_pb2 import Architecture, CheckpointPolicy, Dataset, TrainingSpec
from services.rpc.errors import InvalidField, checked_labels, checked_name
from services.scheduler.domain.job import Job, evolve
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.placement import resolved
from services.scheduler.domain.runner import Runner

MAX_TEXT = 500
QUEUE_LIFETIME_MS = 24 * 3600 * 1000

# Field → lowest and highest value that make sense; zero always means the default.
_RANGES: dict[str, tuple[float, float]] = {
    "hyperparameters.batch_size": (1, 65_536),
    "hyperparameters.image_size": (8, 4_096),
    "hyperparameters.learning_rate": (1e-9, 100),
    "hyperparameters.weight_decay": (0, 10),
    "hyperparameters.validation_share": (0.01, 0.9),
    "checkpoint_strategy.evaluation_interval_steps": (1, 10_000_000),
    "checkpoint_strategy.every_n_evaluations": (1, 10_000),
    "checkpoint_strategy.keep_best": (1, 100),
    "limits.epochs": (1, 100_000),
    "limits.steps": (1, 1_000_000_000),
    "limits.minutes": (1, 100_000),
    "limits.early_stopping_patience": (1, 10_000),
    "limits.retries": (1, 20),
    "limits.stall_minutes": (1, 10_000),
}
# Instead of stall minutes: the training never counts as stalled.
_NEVER = -1


def check_settings(request: SubmitJobRequest) -> None:
    """Raises InvalidField for the first setting that is out of its range."""
    for path, (lowest, highest) in _RANGES.items():
        group, _, name = path.partition(".")
        value = getattr(getattr(request, group), name)
        if path == "limits.stall_minutes" and value == _NEVER:
            continue
        # `not (a <= b)` holds for NaN too.
        if value != 0 and not lowest <= value <= highest:
            raise InvalidField(path, value, f"it must be from {lowest:g} to {highest:g}, or 0 for the default")
    if request.limits.stop_when_stalled and request.limits.stall_minutes == _NEVER:
        rule = "it contradicts stall_minutes -1, with which no training counts as stalled; leave out one of the two"
        raise InvalidField("limits.stop_when_stalled", True, rule)
    if request.advanced_evaluation.enabled:
        rule = "previews and recommendations come with a later version; the confusion matrix is there, free of charge"
        raise InvalidField("advanced_evaluation.enabled", True, rule)
    if request.checkpoint_strategy.policy not in CheckpointPolicy.values():
        names = ", ".join(name.removeprefix("CHECKPOINT_POLICY_").lower() for name in CheckpointPolicy.keys()[1:])
        raise InvalidField(
            "checkpoint_strategy.policy", request.checkpoint_strategy.policy, f"it must be one of: {names}"
        )


def submitted(
    request: SubmitJobRequest, dataset: Dataset, architecture: Architecture, runner: Runner | None, now_ms: int
) -> JobSubmitted:
    """The event of a submission. Raises InvalidField."""
    check_settings(request)
    spec = resolved(
        TrainingSpec(
            dataset=dataset,
            architecture=architecture,
            hyperparameters=request.hyperparameters,
            checkpoint_strategy=request.checkpoint_strategy,
            advanced_evaluation=request.advanced_evaluation,
            limits=request.limits,
        )
    )
    return JobSubmitted(
        name=checked_name("name", request.name) if request.name else f"{dataset.name} {architecture.architecture_id}",
        spec=spec,
        runner_id=runner.runner_id if runner is not None else "",
        labels=checked_labels(request.labels),
        queued=request.queue,
        queue_expires_at_ms=now_ms + QUEUE_LIFETIME_MS if request.queue else 0,
    )


def first_state(job_id: str, workspace_id: str, event: JobSubmitted) -> Job:
    """The job that the event will make, for deciding on it before it is appended."""
    return evolve(None, event, Envelope(job_id, workspace_id, 1, 0, "", 0))
