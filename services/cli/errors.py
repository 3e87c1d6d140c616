"""Errors as one sentence: what was wrong, and what to do next."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

# A workflow is given in the same options as a training.
_WORKFLOW = "workflow."
_AUGMENTATION = "augmentations."
# Fields of requests → what the person typed.
_OPTIONS = {
    "hyperparameters.batch_size": "--batch-size",
    "hyperparameters.image_size": "--image-size",
    "hyperparameters.learning_rate": "--learning-rate",
    "hyperparameters.weight_decay": "--weight-decay",
    "hyperparameters.validation_share": "--validation-share",
    "hyperparameters.accumulate_batches": "--accumulate",
    "hyperparameters.auto_batch_vram_share": "--vram-share",
    "hyperparameters.gradient_clip_norm": "--gradient-clip",
    "weights.source": "--weights",
    "weights.name": "--weights",
    "weights.checkpoint": "--from-checkpoint",
    "weights.checkpoint.job_id": "--from-checkpoint",
    "checkpoint_strategy.evaluation_interval_steps": "--evaluation-interval",
    "checkpoint_strategy.every_n_evaluations": "--every-n-evaluations",
    "checkpoint_strategy.keep_best": "--keep-best",
    "limits.epochs": "--epochs",
    "limits.steps": "--steps",
    "limits.minutes": "--minutes",
    "limits.early_stopping_patience": "--patience",
    "limits.retries": "--retries",
    "limits.stall_minutes": "--stall-minutes",
    "period": "--month",
    "search": "--search",
    "submitted_by": "--by",
    "newest": "--newest",
    "as_of": "--at",
    "filter.types": "--type",
    "filter.workspace_id": "--workspace",
    "from_position": "--from",
    "to_position": "--to",
    "until_ms": "--for",
}


NEEDS_AN_ANSWER = "this needs an answer; run it in a terminal, or with --yes"


class CliError(Exception):
    """Something that the person at the terminal can understand and act on."""

    exit_code = 1


class NotConfigured(CliError):
    """`tether` must know where a platform is and who asks."""


class PlatformError(CliError):
    """The platform refused a call, or could not be reached. `away`: the same call may succeed later."""

    def __init__(self, sentence: str, code: "grpc.StatusCode", away: bool) -> None:
        super().__init__(sentence)
        self.code, self.away = code, away


def from_rpc(error: "grpc.RpcError", address: str) -> PlatformError:
    """The sentence for a failed call to `address`."""
    import grpc

    # A grpc.RpcError of a call is a grpc.Call as well.
    assert isinstance(error, grpc.Call)
    code, said = error.code(), (error.details() or "").strip()
    by_platform = any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata() or ())
    if code is grpc.StatusCode.UNAVAILABLE:
        unreachable = f"cannot reach the platform at {address}; is it up? `tether up` starts one on this machine"
        return PlatformError(said if by_platform else unreachable, code, True)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return PlatformError(f"the platform at {address} did not answer in time; try again", code, True)
    if code is grpc.StatusCode.CANCELLED:
        return PlatformError(f"the platform at {address} ended the call; try again", code, True)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return PlatformError(
            f"the platform at {address} does not serve this call; is it of the same version, "
            "and does the address lead to all of its services?",
            code,
            False,
        )
    if not by_platform and code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        return PlatformError(f"the call to {address} failed: {said or code.name}", code, True)
    return PlatformError(_in_options(error, said) if by_platform else said or code.name, code, False)


def _in_options(error: "grpc.Call", said: str) -> str:
    """A sentence about a field of the request, told of the option instead."""
    from grpc_status import rpc_status

    from protos.common.v1.errors_pb2 import InvalidField

    status = rpc_status.from_call(error)
    invalid = InvalidField()
    if status is None or not status.details or not status.details[0].Unpack(invalid):
        return said
    field = invalid.field.removeprefix(_WORKFLOW)
    option = _OPTIONS.get(field, field)
    if field.startswith(_AUGMENTATION):
        option = f"--augment {field.removeprefix(_AUGMENTATION).replace('_', '-')}"
    return said.replace(invalid.field, option, 1)
