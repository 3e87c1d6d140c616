"""Gives an installed runner a new secret key; a training that runs goes on under it."""

import contextlib
import os
import signal

import grpc

from protos.scheduler.v1 import access_pb2, access_pb2_grpc
from runner_agent import files
from runner_agent.config import StateFolder, parse_server
from runner_agent.errors import BoxError
from runner_agent.link import CHANNEL_OPTIONS, credentials_of
from runner_agent.locks import Lock

_TIMEOUT_S = 5.0


def check(folder: StateFolder, key: str) -> str:
    """Ask the platform whose key this is. Returns why it could not be asked; empty where the key is right.

    Raises BoxError for a key that the platform does not know, or that is another runner's.
    """
    server = parse_server(folder.load().server)
    channel = (
        grpc.secure_channel(server.target, grpc.ssl_channel_credentials(), options=CHANNEL_OPTIONS)
        if server.tls
        else grpc.insecure_channel(server.target, options=CHANNEL_OPTIONS)
    )
    with channel:
        try:
            who = access_pb2_grpc.AccessServiceStub(channel).WhoAmI(
                access_pb2.WhoAmIRequest(), metadata=credentials_of(key), timeout=_TIMEOUT_S
            )
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise BoxError(f"the platform refuses the new key ({error.details()}); nothing was changed") from None
            return str(error.details())
    known = (files.read_json(folder.status) or {}).get("runner_id", "")
    if who.kind != "runner" or (known and who.subject_id != known):
        raise BoxError("this is not a key of this runner; nothing was changed")
    return ""


def replace_key(folder: StateFolder, key: str) -> None:
    """Store the key, and start the agent anew with it. Its launcher does that at once; the keeper goes on meanwhile."""
    files.replace(folder.secret_key, key.encode() + b"\n")
    agent_pid = Lock(folder.agent_lock).holder()
    if agent_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent_pid, signal.SIGTERM)
