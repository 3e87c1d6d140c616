"""Aggregates as text: what the read models' rows hold."""

import base64
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

State = TypeVar("State")


def _encode(value: Any) -> Any:
    if isinstance(value, Message):
        return base64.b64encode(value.SerializeToString(deterministic=True)).decode()
    raise TypeError(f"cannot store {type(value).__name__}")


def _decode(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, Message):
        return kind.FromString(base64.b64decode(value))
    raise TypeError(f"cannot load {kind}")


_encoder = msgspec.json.Encoder(enc_hook=_encode)


def dump(state: object) -> str:
    """Equal states give equal text."""
    return _encoder.encode(state).decode()


def load(text: str, kind: type[State]) -> State:
    return msgspec.json.decode(text, type=kind, dec_hook=_decode)
