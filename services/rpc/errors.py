"""Refusals: a gRPC status code, one typed detail, and one sentence that tells the person what to do."""

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from protos.common.v1 import errors_pb2

MAX_NAME = 100


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
        shown = str(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}… ({len(shown)} characters)"
        super().__init__(
            f"{field} is {shown!r}, but {rule}", errors_pb2.InvalidField(field=field, value=str(value)[:200], rule=rule)
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


class Unavailable(Refused):
    """Something that the platform depends on is away for now; the same request may be repeated."""

    code = grpc.StatusCode.UNAVAILABLE


def to_status(error: Refused) -> grpc.Status:
    """What goes over the wire."""
    status = Status(code=error.code.value[0], message=str(error))
    if error.detail is not None:
        packed = AnyMessage()
        packed.Pack(error.detail)
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
