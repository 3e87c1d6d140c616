"""Health probes: each returns when the server answers as it should and raises otherwise."""

import asyncio

import asyncpg
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 3.0


async def probe_postgres(url: str) -> None:
    """A session can be opened: the server is past its recovery and knows the password."""
    connection = await asyncpg.connect(url, timeout=TIMEOUT_S)
    await connection.close(timeout=TIMEOUT_S)


async def probe_nats(address: str) -> None:
    """The server greets with its INFO line."""
    host, port = address.rsplit(":", 1)
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            if not (await reader.readline()).startswith(b"INFO "):
                raise ConnectionError(f"what listens on {address} is no NATS server")
        finally:
            writer.close()
            await writer.wait_closed()


async def probe_gateway(address: str) -> None:
    """Envoy serves. Whether the services behind it do is asked of each of them."""
    host, port = address.rsplit(":", 1)
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            if not (await reader.readline()).startswith(b"HTTP/1.1 200 "):
                raise ConnectionError(f"the gateway on {address} is not serving")
        finally:
            writer.close()
            await writer.wait_closed()


async def probe_grpc(address: str) -> None:
    """The server as a whole reports SERVING by the standard health protocol."""
    host, port = address.rsplit(":", 1)
    async with asyncio.timeout(TIMEOUT_S):
        # A refused connection is known at once; a channel would hide it behind its own retries.
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        await writer.wait_closed()
    # A proxy from the environment must not stand between two processes of one machine.
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise ConnectionError(f"the server on {address} is not serving yet")
