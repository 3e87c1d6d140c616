"""The first workspace and its admin token, and client.toml, by which `tether` finds the platform."""

import json
from collections.abc import Mapping
from pathlib import Path

import grpc

from deploy.local.credentials import Credentials
from deploy.local.errors import LocalError
from deploy.local.files import write_private
from protos.scheduler.v1.access_pb2 import CreateWorkspaceRequest, CreateWorkspaceResponse
from protos.scheduler.v1.access_pb2_grpc import AccessServiceStub

TIMEOUT_S = 30.0
NAMES = ("default", *(f"default-{number}" for number in range(2, 10)))


async def ensure_workspace(scheduler: str, credentials: Credentials, file: Path) -> Credentials:
    """The credentials with a workspace's admin token, saved to `file`. Makes a workspace unless they had one.

    A crash after the workspace was made but before its token was saved loses the token for good, because a secret is
    told once; the next start then makes a workspace with the next name.
    """
    if credentials.workspace_token:
        return credentials
    async with grpc.aio.insecure_channel(scheduler, options=[("grpc.enable_http_proxy", 0)]) as channel:
        for name in NAMES:
            answer = await _create(channel, name, credentials)
            if answer is not None and answer.secret:
                credentials = credentials.with_workspace_token(answer.secret)
                credentials.save(file)
                return credentials
            credentials = credentials.with_new_request()
            credentials.save(file)
    raise LocalError(f"the names {NAMES[0]} to {NAMES[-1]} are all taken; make a workspace with the operator's token")


async def _create(channel: grpc.aio.Channel, name: str, credentials: Credentials) -> CreateWorkspaceResponse | None:
    """None if the name is taken, or if the request id was used for another name before a crash."""
    request = CreateWorkspaceRequest(request_id=credentials.workspace_request_id, name=name)
    metadata = [("authorization", f"Bearer {credentials.operator_token}")]
    try:
        return await AccessServiceStub(channel).CreateWorkspace(
            request, metadata=metadata, timeout=TIMEOUT_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.INVALID_ARGUMENT):
            return None
        raise LocalError(f"the first workspace could not be made: {error.details()}") from None


def write_client(file: Path, credentials: Credentials, endpoints: Mapping[str, str]) -> None:
    """Replaces client.toml (0600)."""
    # A JSON string of plain ASCII is a TOML string.
    lines = [
        f"token = {json.dumps(credentials.workspace_token)}",
        f"operator_token = {json.dumps(credentials.operator_token)}",
        "",
        "[endpoints]",
        *(f"{service} = {json.dumps(address)}" for service, address in endpoints.items()),
    ]
    write_private(file, "\n".join(lines) + "\n")
