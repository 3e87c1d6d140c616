"""What makes two calls the same request: who asks, the id that he gave it, and what it asks for."""

import hashlib

from google.protobuf.message import Message

from services.eventlog.append import Request
from services.rpc.errors import InvalidField
from services.rpc.shell import caller

_MAX_REQUEST_ID = 100


def identity_of(request: Message, request_id: str) -> Request | None:
    """None where the caller gave no id, and a repeat is a request of its own. Raises InvalidField."""
    if len(request_id) > _MAX_REQUEST_ID:
        raise InvalidField("request_id", request_id, f"it has at most {_MAX_REQUEST_ID} characters; a UUID is right")
    if not request_id:
        return None
    # The RPC is part of the content: the same id in another call is a mistake.
    content = request.DESCRIPTOR.full_name.encode() + request.SerializeToString(deterministic=True)
    return Request(caller().subject, request_id, hashlib.sha256(content).digest())
