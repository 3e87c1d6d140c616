"""What a webhook tells: which events, in which words, signed how, and when it is tried again. Pure."""

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.json_format import MessageToDict

from protos.eventlog.v1.eventlog_pb2 import EventRecord, WebhookKind
from protos.events.v1.job_pb2 import JobOutcomeCorrected
from services.eventlog.catalogue import payload_of

_FINISHED, _FAILED = WebhookKind.WEBHOOK_KIND_FINISHED, WebhookKind.WEBHOOK_KIND_FAILED
_KILLED, _UNREACHABLE = WebhookKind.WEBHOOK_KIND_KILLED, WebhookKind.WEBHOOK_KIND_UNREACHABLE
_QUOTA = WebhookKind.WEBHOOK_KIND_QUOTA

# The index `webhook_events` has the same list.
KIND_OF: dict[str, WebhookKind.ValueType] = {
    "JobFinished": _FINISHED,
    "JobFailed": _FAILED,
    "JobKilled": _KILLED,
    "JobUnreachable": _UNREACHABLE,
    "JobReachable": _UNREACHABLE,
    "QuotaThresholdReached": _QUOTA,
    "QuotaExhausted": _QUOTA,
    "QuotaReplenished": _QUOTA,
}
_CORRECTED: dict[str, WebhookKind.ValueType] = {"finished": _FINISHED, "failed": _FAILED, "killed": _KILLED}
TYPES = (*KIND_OF, "JobOutcomeCorrected")

# The wait before a try is drawn from zero to this, doubled with each failure.
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 1.0, 300.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Message:
    """One HTTP request."""

    body: bytes
    headers: dict[str, str]


def kind_of(record: EventRecord) -> WebhookKind.ValueType:
    """UNSPECIFIED for an event that no webhook tells."""
    if record.type == "JobOutcomeCorrected":
        event = payload_of(record)
        assert isinstance(event, JobOutcomeCorrected)
        return _CORRECTED.get(event.WhichOneof("outcome") or "", WebhookKind.WEBHOOK_KIND_UNSPECIFIED)
    return KIND_OF.get(record.type, WebhookKind.WEBHOOK_KIND_UNSPECIFIED)


def wanted(record: EventRecord, kinds: Sequence[int]) -> bool:
    """`kinds` empty: all."""
    kind = kind_of(record)
    return kind != WebhookKind.WEBHOOK_KIND_UNSPECIFIED and (not kinds or kind in kinds)


def message(record: EventRecord, log_id: str, secret: str, now_ms: int) -> Message:
    """The request that tells an event at a moment, which is part of what is signed."""
    told = {
        "event_id": record.event_id,
        "log_id": log_id,
        "position": record.position,
        "kind": WebhookKind.Name(kind_of(record)).removeprefix("WEBHOOK_KIND_").lower(),
        "type": record.type,
        "workspace_id": record.workspace_id,
        "stream_kind": record.stream_kind,
        "stream_id": record.stream_id,
        "recorded_at": (_EPOCH + timedelta(microseconds=record.recorded_at_us)).isoformat(timespec="microseconds"),
        "payload": MessageToDict(payload_of(record), preserving_proto_field_name=True),
    }
    body = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = str(now_ms // 1000)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "tether-webhook/1",
        "Tether-Event-Id": record.event_id,
        "Tether-Timestamp": timestamp,
        "Tether-Signature": "v1=" + signature(secret, timestamp, body),
    }
    return Message(body, headers)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over `<timestamp>.<body>`, in hexadecimal digits."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def backoff_s(failures: int, random: float) -> float:
    """How long to wait after so many failures in a row; `random` is from [0, 1). Full jitter, at most 5 min."""
    longest_s: float = min(_FIRST_BACKOFF_S * 2 ** min(failures - 1, 20), _LAST_BACKOFF_S)
    return random * longest_s
