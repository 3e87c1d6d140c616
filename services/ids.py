"""Random identifiers and secrets. A prefix tells people what an id names."""

import base64
import hashlib
import secrets
from typing import Literal

Prefix = Literal["ws", "rn", "jb", "at", "af", "ds", "wf", "tok", "req"]


def new_id(prefix: Prefix) -> str:
    """80 random bits, for example `jb_k3v9q2m7x4p8w1zt`."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(10)).decode().lower()}"


def new_secret(prefix: Literal["tt", "tc", "tk", "wh"]) -> str:
    """256 random bits: `tt` a person's token, `tc` a code for the page, `tk` a runner's key, `wh` a webhook's."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def sha256(secret: str) -> bytes:
    """What is stored of a secret. It has 256 bits of its own, so it needs neither salt nor stretching."""
    return hashlib.sha256(secret.encode()).digest()
