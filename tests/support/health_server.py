"""The smallest real gRPC server that the supervisor can take for a service: health, and the call of a first start.

TETHER_LISTEN=127.0.0.1:PORT python health_server.py NAME
"""

import asyncio
import os
import signal
import sys

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from protos.scheduler.v1.access_pb2 import (
    CreateSignInCodeRequest,
    CreateSignInCodeResponse,
    CreateWorkspaceRequest,
    CreateWorkspaceResponse,
)
from protos.scheduler.v1.access_pb2_grpc import AccessServiceServicer, add_AccessServiceServicer_to_server


class Access(AccessServiceServicer):
    async def CreateWorkspace(
        self,
        request: CreateWorkspaceRequest,
        context: grpc.aio.ServicerContext[CreateWorkspaceRequest, CreateWorkspaceResponse],
    ) -> CreateWorkspaceResponse:
        return CreateWorkspaceResponse(workspace_id="w", secret=f"tt_of_{request.name}")

    async def CreateSignInCode(
        self,
        request: CreateSignInCodeRequest,
        context: grpc.aio.ServicerContext[CreateSignInCodeRequest, CreateSignInCodeResponse],
    ) -> CreateSignInCodeResponse:
        assert ("authorization", "Bearer tt_of_default") in (context.invocation_metadata() or ())
        return CreateSignInCodeResponse(code="tc_once")


async def serve() -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    add_AccessServiceServicer_to_server(Access(), server)
    server.add_insecure_port(os.environ["TETHER_LISTEN"])
    await server.start()
    print(f"{sys.argv[1]} serves", file=sys.stderr)
    await stopping.wait()
    await server.stop(0.1)


if __name__ == "__main__":
    asyncio.run(serve())
