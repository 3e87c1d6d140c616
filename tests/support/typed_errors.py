"""The typed detail of a refusal, as any client reads it."""

from typing import TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

T = TypeVar("T", bound=Message)


def detail_of(error: grpc.aio.AioRpcError, kind: type[T]) -> T:
    """The one detail that the refusal carries, which must be of this type."""
    raw = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    (detail,) = Status.FromString(raw).details
    found = kind()
    assert detail.Unpack(found), f"it carries {detail.type_url}"
    return found
