"""How a training ended, in words."""

from protos.events.v1.job_pb2 import JobFailed, JobFinished, JobKilled, JobOutcomeCorrected
from protos.training.v1.training_pb2 import EndReason
from services.quota.domain.attempt import AttemptEvent

_PREFIX = "END_REASON_"


def how_it_ended(event: AttemptEvent) -> tuple[EndReason.ValueType, str, str]:
    """Reason, the message of the event, and one sentence; of an event that ends an attempt or corrects its end."""
    told: JobFinished | JobFailed | JobKilled | None = None
    if isinstance(event, JobOutcomeCorrected):
        kind = event.WhichOneof("outcome")
        told = getattr(event, kind) if kind is not None else None
    elif isinstance(event, JobFinished | JobFailed | JobKilled):
        told = event
    if told is None:
        return EndReason.END_REASON_UNSPECIFIED, "", "the box told when it ended, and not how"
    if isinstance(told, JobFinished):
        return EndReason.END_REASON_UNSPECIFIED, "", "the training finished"
    what = "the training failed" if isinstance(told, JobFailed) else "its stop began"
    why = ": ".join(part for part in (_words(told.reason), told.message) if part)
    return told.reason, told.message, f"{what} ({why})" if why else what


def _words(reason: EndReason.ValueType) -> str:
    """`out of memory`; a reason of a newer platform as a number."""
    if not reason:
        return ""
    try:
        return EndReason.Name(reason).removeprefix(_PREFIX).replace("_", " ").lower()
    except ValueError:
        return f"reason {reason}"
