"""Which runner takes which job, and at which rate."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from protos.common.v1.inventory_pb2 import Inventory
from protos.events.v1 import job_pb2 as ev
from protos.training.v1.training_pb2 import (
    Architecture,
    CheckpointReference,
    Hyperparameters,
    Limits,
    Optimizer,
    Precision,
    ResumeFrom,
    Schedule,
    TrainingSpec,
)
from services.scheduler.domain.checkpoints import needed, only_runner_id
from services.scheduler.domain.job import Job
from services.scheduler.domain.refusals import (
    BelowRequirements,
    CheckpointElsewhere,
    CheckpointGone,
    HolderNotOnline,
    NoRunnerMatches,
    QuotaUsedUp,
    RunnerNotOnline,
)
from services.scheduler.domain.runner import Runner, occupied
from services.scheduler.domain.workspace import Exhaustion, Workspace

MICROS = 1_000_000
DEFAULT_STALL_MINUTES = 30
# Instead of a batch size: the largest that fits, and the share of VRAM that it is to fit into.
AUTO_BATCH, DEFAULT_VRAM_SHARE = -1, 0.6
# Where neither the request nor the architecture says anything.
_DEFAULTS = Hyperparameters(
    optimizer=Optimizer.OPTIMIZER_ADAMW,
    schedule=Schedule.SCHEDULE_ONE_CYCLE,
    precision=Precision.PRECISION_FLOAT32,
    accumulate_batches=1,
    gradient_clip_norm=-1,
)
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Rates:
    """Multipliers relative to one NVIDIA T4, millionths, by a GPU's product name; longer names are tried first."""

    multipliers: Mapping[str, int]
    # For a GPU that no name matches.
    unlisted_micros: int
    advanced_evaluation_micros: int = 1_500_000

    def of_gpu(self, gpu_type: str) -> int:
        """The multiplier of the longest listed name that the product name contains as whole words."""
        found = [
            name for name in self.multipliers if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", gpu_type, re.IGNORECASE)
        ]
        return self.multipliers[max(found, key=len)] if found else self.unlisted_micros

    def of_box(self, inventory: Inventory) -> int:
        """Compute minutes charged per real minute, millionths, without advanced evaluation."""
        return sum(self.of_gpu(gpu.type) for gpu in inventory.gpus)


@dataclass(frozen=True, slots=True)
class Placed:
    """Events of one placement: the job's and the runner's, to be appended together."""

    job_events: Sequence[Message]
    runner: Runner | None
    runner_events: Sequence[Message]


def shortfall(runner: Runner, architecture: Architecture) -> BelowRequirements | None:
    """The first resource of which the runner has less than the minimum; a box is known once it has connected."""
    needs, has = architecture.requirements, runner.inventory
    if has is None:
        return None
    vram = min((gpu.vram_bytes for gpu in has.gpus), default=0)
    for resource, required, available in (
        ("gpu_vram_bytes", needs.min_gpu_vram_bytes, vram),
        ("cpu_ram_bytes", needs.min_cpu_ram_bytes, has.cpu_ram_bytes),
    ):
        if available < required:
            return BelowRequirements(
                runner.runner_id, runner.name, architecture.architecture_id, resource, required, available
            )
    return None


def warnings_for(runner: Runner, architecture: Architecture) -> list[str]:
    """One sentence for each resource below the recommended."""
    needs, has = architecture.requirements, runner.inventory
    if has is None:
        return []
    vram = min((gpu.vram_bytes for gpu in has.gpus), default=0)
    found = []
    for what, recommended, available in (
        ("VRAM per GPU", needs.recommended_gpu_vram_bytes, vram),
        ("CPU memory", needs.recommended_cpu_ram_bytes, has.cpu_ram_bytes),
    ):
        if available < recommended:
            found.append(
                f"{architecture.architecture_id} runs best with {recommended / _GIB:.1f} GiB of {what}; "
                f"runner {runner.name} has {available / _GIB:.1f} GiB"
            )
    return found


def refuse_exhausted(workspace: Workspace, period: str) -> None:
    """Raises QuotaUsedUp where the minutes of `period` are used up."""
    if (gone := workspace.used_up(period)) is not None:
        raise QuotaUsedUp(gone.period, gone.quota_milliminutes, gone.used_milliminutes)


def runner_for(
    found: CheckpointReference, chosen: Runner | None, holder: Runner | None, labels: Mapping[str, str]
) -> Runner | None:
    """The only runner that may train from the checkpoint; None: any. `holder` is the one on whose box it lies.

    Raises CheckpointElsewhere where another one was chosen, by its name or by labels, and CheckpointGone where the box
    has left the platform.
    """
    if not only_runner_id(found):
        return chosen
    if holder is None or holder.uninstalled:
        raise CheckpointGone(found.job_id, found.name, holder.name if holder is not None else found.runner_id)
    if (chosen is not None and chosen.runner_id != holder.runner_id) or not _labelled(holder, labels):
        raise CheckpointElsewhere(found.job_id, found.name, holder.runner_id, holder.name)
    return holder


def _labelled(runner: Runner, labels: Mapping[str, str]) -> bool:
    return all(runner.labels.get(key) == value for key, value in labels.items())


def matches(runner: Runner, job: Job, lacks: bool = False) -> bool:
    """Whether the runner may take the waiting job now.

    `lacks`: the platform has the file no more of the checkpoint that the job begins with.
    """
    return (
        runner.placeable
        and not runner.uninstalled
        and runner.workspace_id == job.workspace_id
        and job.wanted_runner_id in ("", runner.runner_id)
        and only_runner_id(needed(job), lacks) in ("", runner.runner_id)
        and _labelled(runner, job.labels)
        and shortfall(runner, job.spec.architecture) is None
    )


def waits_for(job: Job, runners: Sequence[Runner], used_up: Exhaustion | None = None, lacks: bool = False) -> str:
    """Why a queued job waits, in words; `used_up`: its workspace has no minutes left this month."""
    if used_up is not None:
        return (
            f"compute minutes: {used_up.used_milliminutes / 1000:.2f} of {used_up.quota_milliminutes / 1000:.2f} "
            f"of {used_up.period} are used"
        )
    begins = needed(job)
    only = only_runner_id(begins, lacks)
    if wanted_id := job.wanted_runner_id or only:
        name = _name_of(wanted_id, runners)
        if name is None:
            return "its runner"
        if begins is not None and only and only != wanted_id:
            holder = _name_of(only, runners) or only
            return f"runner {name}, which cannot read {begins.name}: that lies only on runner {holder} by now"
        again = f", for attempt {job.attempt + 1} of {job.attempt + job.retries_left}" if job.waits_for_retry else ""
        why = f": {begins.name} of job {begins.job_id} lies only there" if begins is not None and only else ""
        return f"runner {name} to come online{again}{why}"
    suited = [r for r in runners if shortfall(r, job.spec.architecture) is None and _labelled(r, job.labels)]
    return f"one of {len(suited)} matching runners to come online" if suited else "a runner that matches"


def _name_of(runner_id: str, runners: Iterable[Runner]) -> str | None:
    return next((runner.name for runner in runners if runner.runner_id == runner_id), None)


def submit(
    submitted: ev.JobSubmitted,
    chosen: Runner | None,
    candidates: Sequence[Runner],
    job: Job,
    attempt_id: str,
    rates: Rates,
    window_ms: int,
) -> Placed:
    """Place a job at its submission, or let it wait where it may.

    `chosen` is the runner that it names, `candidates` the workspace's runners where it names none; `job` is the job
    as `submitted` makes it. Raises BelowRequirements, RunnerNotOnline, HolderNotOnline, NoRunnerMatches.
    """
    if chosen is not None:
        if (short := shortfall(chosen, submitted.spec.architecture)) is not None:
            raise short
        submitted.warnings.extend(warnings_for(chosen, submitted.spec.architecture))
        if not chosen.placeable and not submitted.queued:
            begins = needed(job)
            if begins is not None and only_runner_id(begins):
                raise HolderNotOnline(begins.job_id, begins.name, chosen.runner_id, chosen.name, chosen.status)
            raise RunnerNotOnline(chosen.runner_id, chosen.name, chosen.status)
        candidates = [chosen]
    free = [runner for runner in candidates if matches(runner, job)]
    if not free:
        if not submitted.queued:
            raise _nobody(candidates, job)
        return Placed([submitted], None, [])
    # The least that will do: larger runners stay free for those who need them.
    runner = min(free, key=lambda r: (rates.of_box(r.inventory or Inventory()), r.name))
    if chosen is None:
        submitted.warnings.extend(warnings_for(runner, submitted.spec.architecture))
    submitted.queued = False
    placed = assign(job, runner, attempt_id, rates, window_ms)
    return Placed([submitted, *placed.job_events], runner, placed.runner_events)


def _nobody(runners: Sequence[Runner], job: Job) -> Exception:
    """Says which of the conditions failed for how many."""
    if not runners:
        return NoRunnerMatches("the workspace has no runner")
    shorts = [short for runner in runners if (short := shortfall(runner, job.spec.architecture)) is not None]
    if len(shorts) == len(runners):
        return shorts[0]
    online = sum(runner.placeable for runner in runners)
    return NoRunnerMatches(f"of {len(runners)} runners {online} are ONLINE, and none of them matches")


def assign(job: Job, runner: Runner, attempt_id: str, rates: Rates, window_ms: int) -> Placed:
    """The runner takes the job. The rate and the window of the moment are written down for good."""
    inventory = runner.inventory or Inventory()
    factor = rates.advanced_evaluation_micros if job.spec.advanced_evaluation.enabled else MICROS
    assigned = ev.JobAssigned(
        attempt_id=attempt_id,
        runner_id=runner.runner_id,
        runner_name=runner.name,
        gpus=[
            ev.ChargedGpu(uuid=gpu.uuid, type=gpu.type, multiplier_micros=rates.of_gpu(gpu.type))
            for gpu in inventory.gpus
        ],
        evaluation_factor_micros=factor,
        rate_micros=rates.of_box(inventory) * factor // MICROS,
        window_ms=window_ms,
        simulated=inventory.simulated,
        attempt=job.attempt + 1,
        resume_from=_resume_from(job),
    )
    return Placed([assigned], runner, [occupied(runner, attempt_id, job.job_id)])


def _resume_from(job: Job) -> ResumeFrom | None:
    """What the next attempt goes on from; None for the first, whose settings say it."""
    if not job.attempt:
        return None
    resume_from = ResumeFrom()
    if job.checkpoints:
        newest = job.checkpoints[-1]
        resume_from.attempt_id, resume_from.runner_id = job.saved_by, job.runner_id
        resume_from.checkpoint, resume_from.step, resume_from.sha256 = newest.name, newest.step, newest.sha256
    elif job.origin is not None:
        resume_from.CopyFrom(job.origin)
    resume_from.trained_ms = job.trained_before_ms
    return resume_from


def resolved(spec: TrainingSpec) -> TrainingSpec:
    """The settings with every zero replaced by the architecture's default, so that the log tells what really ran."""
    full = TrainingSpec()
    full.CopyFrom(spec)
    full.hyperparameters.CopyFrom(with_defaults(spec.hyperparameters, spec.architecture))
    if not full.HasField("augmentations"):
        full.augmentations.CopyFrom(spec.architecture.default_augmentations)
    full.limits.CopyFrom(limited(full.limits, spec.architecture))
    return full


def with_defaults(hyper: Hyperparameters, architecture: Architecture) -> Hyperparameters:
    """The hyperparameters with every zero replaced by the architecture's default."""
    full = Hyperparameters()
    full.CopyFrom(hyper)
    for defaults in (architecture.defaults, _DEFAULTS):
        for field in defaults.DESCRIPTOR.fields:
            if not getattr(full, field.name):
                setattr(full, field.name, getattr(defaults, field.name))
    if full.batch_size == AUTO_BATCH and not full.auto_batch_vram_share:
        full.auto_batch_vram_share = DEFAULT_VRAM_SHARE
    return full


def limited(limits: Limits, architecture: Architecture) -> Limits:
    """The limits with the defaults filled in: one of epochs, steps and minutes is always set."""
    full = Limits()
    full.CopyFrom(limits)
    if not (full.epochs or full.steps or full.minutes):
        full.epochs = architecture.default_epochs
    full.stall_minutes = full.stall_minutes or DEFAULT_STALL_MINUTES
    return full
