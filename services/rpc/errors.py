"""Refusals: a gRPC status code, one typed detail, and one sentence that tells the person what to do."""

from collections.abc import Mapping

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from protos.common.v1 import errors_pb2

MAX_NAME = 100
_MAX_LABELS = 50


class Refused(Exception):
    """Somebody asked for something that a rule forbids. Base of all errors that callers see."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self, sentence: str, detail: Message | None = None) -> None:
        super().__init__(sentence)
        self.detail = detail


class InvalidField(Refused):
    """A field of the request breaks a rule."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, value: object, rule: str) -> None:
        self.field, self.value, self.rule = field, value, rule
        shown = str(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}… ({len(shown)} characters)"
        super().__init__(
            f"{field} is {shown!r}, but {rule}", errors_pb2.InvalidField(field=field, value=str(value)[:200], rule=rule)
        )

    def below(self, root: str) -> "InvalidField":
        """The same of a message inside of the request: a field is named from the request's root."""
        return InvalidField(f"{root}.{self.field}", self.value, self.rule)


class OtherWorkspace(Refused):
    """A workspace's token reads that workspace and no other, whether or not the other exists."""

    code = grpc.StatusCode.PERMISSION_DENIED

    def __init__(self, field: str, wanted: str, own: str) -> None:
        rule = f"this token reads the workspace {own} only; leave it empty, or use a token of that workspace"
        super().__init__(
            f"{field} is {wanted[:60]!r}, but {rule}",
            errors_pb2.InvalidField(field=field, value=wanted[:200], rule=rule),
        )


class NotFound(Refused):
    """A thing does not exist in the caller's workspace; what exists elsewhere is told in the same words."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(
            f"there is no {kind} {name[:100]!r} in this workspace{'; ' + hint if hint else ''}",
            errors_pb2.NotFound(kind=kind, id=name[:200]),
        )


class AlreadyExists(Refused):
    """Names are unique within a workspace."""

    code = grpc.StatusCode.ALREADY_EXISTS

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"there is a {kind} named {name!r} already; choose another name",
            errors_pb2.AlreadyExists(kind=kind, name=name),
        )


class BadCredentials(Refused):
    """Every call carries a token that is known, not revoked and not expired."""

    code = grpc.StatusCode.UNAUTHENTICATED

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__(sentence, errors_pb2.BadCredentials(cause=cause))


class RoleRequired(Refused):
    """A role may only call what its row in the role table allows."""

    code = grpc.StatusCode.PERMISSION_DENIED

    def __init__(self, method: str, role: str, allowed: list[str]) -> None:
        name = method.rsplit("/", 1)[-1]
        super().__init__(
            f"a token with the role {role} may not call {name}; it takes one of: {', '.join(allowed)}",
            errors_pb2.RoleRequired(method=method, role=role, allowed=allowed),
        )


class LimitExceeded(Refused):
    """A limit of the platform was passed."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, limit: str, value: int, maximum: int, way_out: str) -> None:
        super().__init__(
            f"{limit}: {value} is above the limit of {maximum}; {way_out}",
            errors_pb2.LimitExceeded(limit=limit, value=value, maximum=maximum),
        )


class Unavailable(Refused):
    """Something that the platform depends on is away for now; the same request may be repeated."""

    code = grpc.StatusCode.UNAVAILABLE


# Codes of the details that a service's domain raises; a domain knows no gRPC.
_CODES: dict[type[Message], grpc.StatusCode] = {
    errors_pb2.RunnerNotOnline: grpc.StatusCode.FAILED_PRECONDITION,
    errors_pb2.BelowRequirements: grpc.StatusCode.FAILED_PRECONDITION,
    errors_pb2.CheckpointElsewhere: grpc.StatusCode.FAILED_PRECONDITION,
    errors_pb2.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors_pb2.QuotaUsedUp: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors_pb2.HeldByAnotherInstallation: grpc.StatusCode.PERMISSION_DENIED,
    errors_pb2.NotFound: grpc.StatusCode.NOT_FOUND,
    errors_pb2.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors_pb2.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors_pb2.RevisedMeanwhile: grpc.StatusCode.ABORTED,
    errors_pb2.InvalidField: grpc.StatusCode.INVALID_ARGUMENT,
}


def code_of(error: Exception) -> grpc.StatusCode | None:
    """The status code of a refusal: ours, or a domain's, which is known by its `detail`. None for any other error."""
    if isinstance(error, Refused):
        return error.code
    return _CODES.get(type(getattr(error, "detail", None)))  # type: ignore[arg-type]


def to_status(code: grpc.StatusCode, error: Exception) -> grpc.Status:
    """What goes over the wire."""
    status = Status(code=code.value[0], message=str(error))
    detail = getattr(error, "detail", None)
    if detail is not None:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    result: grpc.Status = rpc_status.to_status(status)
    return result


def checked_name(field: str, name: str) -> str:
    """A name that people can read: 1 to 100 printable characters, no space at either end. Raises InvalidField."""
    if not name or len(name) > MAX_NAME:
        raise InvalidField(field, name, f"a name has 1 to {MAX_NAME} characters, this one has {len(name)}")
    if name != name.strip() or not name.isprintable():
        raise InvalidField(field, name, "a name has no control characters and no space at its ends")
    return name


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """At most 50 labels of at most 100 characters each. Raises InvalidField."""
    if len(labels) > _MAX_LABELS:
        raise InvalidField("labels", len(labels), f"there are at most {_MAX_LABELS} labels")
    for key, value in labels.items():
        checked_name("labels", key)
        if len(value) > MAX_NAME or not value.isprintable():
            raise InvalidField(f"labels.{key}", value, f"a label has at most {MAX_NAME} printable characters")
    return dict(labels)
