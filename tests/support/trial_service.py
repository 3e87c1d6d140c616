"""A gRPC server that does what a proxy finds hardest: silence, floods, many streams, errors with details."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

# Below the prefix of a real service, so that it takes the same way.
SERVICE = "tether.quota.v1.Trial"
CHUNK = bytes(65_536)
CHUNKS = 800


class Trial:
    """`Echo` answers the request; `Wait` answers when `go_on` is set; `Flood` answers with 50 MiB."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.waiting = 0
        # Chunks that went out, by the request's bytes.
        self.sent: dict[bytes, int] = {}
        self.metadata: dict[str, Any] = {}

    async def echo(self, request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        self.metadata = dict(context.invocation_metadata() or ())
        return request

    async def wait(self, request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> AsyncIterator[bytes]:
        self.waiting += 1
        try:
            yield b"waiting"
            await self.go_on.wait()
            yield b"done"
        finally:
            self.waiting -= 1

    async def flood(self, request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> AsyncIterator[bytes]:
        for number in range(1, CHUNKS + 1):
            yield CHUNK
            self.sent[request] = number


@asynccontextmanager
async def trial_service() -> AsyncIterator[tuple[Trial, str]]:
    """The service and its address."""
    trial = Trial()
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(trial.echo),
        "Wait": grpc.unary_stream_rpc_method_handler(trial.wait),
        "Flood": grpc.unary_stream_rpc_method_handler(trial.flood),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield trial, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def method(name: str) -> str:
    return f"/{SERVICE}/{name}"
