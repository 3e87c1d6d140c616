"""Broken rules of the scheduler. Each carries its facts as a message of protos/common/v1/errors.proto."""

from google.protobuf.message import Message

from protos.common.v1 import errors_pb2
from services.scheduler.domain.kinds import State, Status, state_label, status_label

_GIB = 1 << 30


class Refused(Exception):
    """Base of the broken rules; `detail` is what programs read, the message what people do."""

    def __init__(self, sentence: str, detail: Message) -> None:
        super().__init__(sentence)
        self.detail = detail


class RunnerNotOnline(Refused):
    """A training may only be placed on a runner that is ONLINE."""

    def __init__(self, runner_id: str, name: str, status: Status) -> None:
        label = status_label(status)
        super().__init__(
            f"runner {name} is {label}; choose an online runner, or submit with --queue to wait for it",
            errors_pb2.RunnerNotOnline(runner_id=runner_id, status=label),
        )


class CheckpointElsewhere(Refused):
    """A checkpoint that the platform has no copy of is read on the box that saved it and nowhere else."""

    def __init__(self, job_id: str, checkpoint: str, runner_id: str, name: str) -> None:
        super().__init__(
            f"checkpoint {checkpoint} of job {job_id} lies only on runner {name}; choose that runner, or a checkpoint "
            "that the platform has: `tether jobs checkpoints` says where each lies",
            errors_pb2.CheckpointElsewhere(job_id=job_id, checkpoint=checkpoint, runner_id=runner_id),
        )


class HolderNotOnline(Refused):
    """The one runner that can read a checkpoint must be ONLINE."""

    def __init__(self, job_id: str, checkpoint: str, runner_id: str, name: str, status: Status) -> None:
        label = status_label(status)
        super().__init__(
            f"checkpoint {checkpoint} of job {job_id} lies only on runner {name}, which is {label}; add --queue to "
            "wait for it",
            errors_pb2.RunnerNotOnline(runner_id=runner_id, status=label),
        )


class CheckpointGone(Refused):
    """A checkpoint whose box has left the platform before its file was uploaded cannot be read any more."""

    def __init__(self, job_id: str, checkpoint: str, name: str) -> None:
        super().__init__(
            f"checkpoint {checkpoint} of job {job_id} lay only on runner {name}, which was uninstalled; choose a "
            "checkpoint that the platform has, or train from the start",
            errors_pb2.NotFound(kind="checkpoint", id=checkpoint),
        )


class JobNotOver(Refused):
    """Only a job that is over can be resumed: two trainings must not go on from one."""

    def __init__(self, job_id: str, state: State) -> None:
        label = state_label(state)
        super().__init__(
            f"job {job_id} is {label} and goes on by itself; wait for its end, or stop it with "
            f"`tether jobs stop {job_id}`, and resume it then",
            errors_pb2.WrongState(kind="job", id=job_id, state=label),
        )


class NoCheckpoint(Refused):
    """A training goes on from a checkpoint; a job that has saved none can only be submitted again."""

    def __init__(self, job_id: str, state: State, went_on_from: str = "") -> None:
        way_out = f"resume job {went_on_from}, from which it went on" if went_on_from else "submit it again"
        super().__init__(
            f"job {job_id} has saved no checkpoint; {way_out}",
            errors_pb2.WrongState(kind="job", id=job_id, state=state_label(state)),
        )


class NoRunnerMatches(Refused):
    """A training for any runner needs one that is ONLINE and has what the architecture needs."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"no runner can take this training now: {why}; connect or free a runner, or submit with --queue to wait",
            errors_pb2.RunnerNotOnline(),
        )


class BelowRequirements(Refused):
    """A runner must have the architecture's minimum of memory."""

    def __init__(self, runner_id: str, name: str, architecture: str, resource: str, required: int, has: int) -> None:
        what = "VRAM per GPU" if resource == "gpu_vram_bytes" else "CPU memory"
        super().__init__(
            f"{architecture} needs at least {required / _GIB:.1f} GiB of {what}, "
            f"runner {name} has {has / _GIB:.1f} GiB; "
            "choose a larger runner or a smaller architecture",
            errors_pb2.BelowRequirements(
                runner_id=runner_id,
                architecture=architecture,
                resource=resource,
                required_bytes=required,
                available_bytes=has,
            ),
        )


class QuotaUsedUp(Refused):
    """A workspace whose minutes of the month are used up starts no training."""

    def __init__(self, period: str, quota_milliminutes: int, used_milliminutes: int) -> None:
        super().__init__(
            f"the workspace has used {used_milliminutes / 1000:.2f} of its {quota_milliminutes / 1000:.2f} "
            f"compute minutes of {period}; ask an admin to raise the quota, or wait for the next month",
            errors_pb2.QuotaUsedUp(
                period=period, quota_milliminutes=quota_milliminutes, used_milliminutes=used_milliminutes
            ),
        )


class HeldByAnotherInstallation(Refused):
    """A secret key belongs to the first installation that used it."""

    def __init__(self, runner_id: str, name: str, holder: str) -> None:
        super().__init__(
            f"the key of runner {name} is in use by the installation on {holder}; create a runner of its own for "
            "this box with `tether runners add`",
            errors_pb2.HeldByAnotherInstallation(runner_id=runner_id, holder_hostname=holder),
        )


class JobIsOver(Refused):
    """Only a job that is not over can be stopped."""

    def __init__(self, job_id: str, state: State) -> None:
        label = state_label(state)
        super().__init__(
            f"job {job_id} is {label} already; there is nothing to stop",
            errors_pb2.WrongState(kind="job", id=job_id, state=label),
        )


class WorkflowNameTaken(Refused):
    """Names are unique among the workflows that there are."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is a workflow named {name!r} already; choose another name, or revise that one",
            errors_pb2.AlreadyExists(kind="workflow", name=name),
        )


class TooManyWorkflows(Refused):
    """A workspace is read whole with its workflows, so they are few enough to be."""

    def __init__(self, maximum: int) -> None:
        limit = "workflows per workspace"
        super().__init__(
            f"{limit}: {maximum + 1} is above the limit of {maximum}; delete one that is not used",
            errors_pb2.LimitExceeded(limit=limit, value=maximum + 1, maximum=maximum),
        )


class WorkflowRevisedMeanwhile(Refused):
    """Who replaces a workflow has seen what he replaces."""

    def __init__(self, workflow_id: str, name: str, seen: int, revision: int) -> None:
        super().__init__(
            f"workflow {name} is at revision {revision}, and this change is of revision {seen}; look at it again with "
            f"`tether workflows show`, and change that",
            errors_pb2.RevisedMeanwhile(kind="workflow", id=workflow_id, revision=revision),
        )


class StaleReport(Refused):
    """A box may only report on the attempt that its runner holds or held last."""

    def __init__(self, attempt_id: str) -> None:
        super().__init__(
            f"attempt {attempt_id[:100]} is not of this runner",
            errors_pb2.NotFound(kind="attempt", id=attempt_id[:200]),
        )


class RunnerNotConnected(Refused):
    """A dataset is checked on the box, which must be connected."""

    def __init__(self, runner_id: str, name: str) -> None:
        super().__init__(
            f"runner {name} is not connected, so its disk cannot be looked at; start it with `tether-runner start`",
            errors_pb2.RunnerNotOnline(runner_id=runner_id, status="OFFLINE"),
        )


class RunnerHoldsTraining(Refused):
    """A runner is uninstalled only where it holds no training."""

    def __init__(self, runner_id: str, name: str, job_id: str) -> None:
        super().__init__(
            f"runner {name} holds the training {job_id}; stop it first with `tether jobs stop {job_id}`",
            errors_pb2.WrongState(kind="runner", id=runner_id, state="OCCUPIED"),
        )
