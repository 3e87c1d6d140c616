"""The address of the page, with a code that signs its reader in once."""

import uuid

import grpc

from protos.scheduler.v1.access_pb2 import CreateSignInCodeRequest
from protos.scheduler.v1.access_pb2_grpc import AccessServiceStub

_TIMEOUT_S = 10.0


def page_address(gateway: str) -> str:
    """`localhost`, because browsers take that for a safe place; the code never leaves the browser, being a fragment."""
    return f"http://localhost:{gateway.rpartition(':')[2]}/"


async def signed_in_address(gateway: str, scheduler: str, token: str) -> str:
    """The page's address with a new code; without one where none can be made now.

    To be shown to a person and written nowhere: for some minutes the code is as good as the token.
    """
    address = page_address(gateway)
    async with grpc.aio.insecure_channel(scheduler, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            made = await AccessServiceStub(channel).CreateSignInCode(
                CreateSignInCodeRequest(request_id=str(uuid.uuid4())),
                metadata=[("authorization", f"Bearer {token}")],
                timeout=_TIMEOUT_S,
            )
        except grpc.aio.AioRpcError:
            return address
    return f"{address}#code={made.code}" if made.code else address
