"""The raw limit of sessions: a bare grpc.aio server that echoes, one connection and one stream for each client.

`python -m tests.bench.raw_echo PORT` is the server.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import grpc
import uvloop

from deploy.local.ports import free_port
from tests.bench.fleet_boxes import raise_open_files
from tests.bench.process_cost import cpu_s, resident_bytes

_METHOD = "/raw/Echo"
_PAYLOAD = bytes(200)
_AT_ONCE = 100
_BEATS_AT_ONCE = 500
_ROUNDS = 3

Call: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"


async def measure_raw(report: Callable[[str, float], None], sessions: int) -> None:
    """raw_session_kib and raw_heartbeat_cpu_us: memory for each stream, processor time of the server for each echo."""
    port = free_port()
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.raw_echo", str(port))
    channels: list[grpc.aio.Channel] = []
    calls: list[Call] = []

    async def connect() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
        channels.append(channel)
        call: Call = channel.stream_stream(_METHOD)(wait_for_ready=True)
        await _beat(call)
        calls.append(call)

    try:
        await connect()
        before_bytes, began = resident_bytes(server.pid), time.perf_counter()
        for first in range(1, sessions, _AT_ONCE):
            await asyncio.gather(*(connect() for _ in range(min(_AT_ONCE, sessions - first))))
        report("raw_connects_per_s", len(calls) / (time.perf_counter() - began))
        report("raw_session_kib", (resident_bytes(server.pid) - before_bytes) / len(calls) / 1024)
        rounds = [await _round(server.pid, calls) for _ in range(_ROUNDS)]
        report("raw_heartbeat_cpu_us", min(rounds) * 1e6)
    finally:
        server.kill()
        await server.wait()
        await asyncio.gather(*(channel.close() for channel in channels))


async def _round(server_pid: int, calls: list[Call]) -> float:
    """Seconds of processor time for each echo."""
    began_s = cpu_s(server_pid)
    for first in range(0, len(calls), _BEATS_AT_ONCE):
        await asyncio.gather(*map(_beat, calls[first : first + _BEATS_AT_ONCE]))
    return (cpu_s(server_pid) - began_s) / len(calls)


async def _beat(call: Call) -> None:
    async with asyncio.timeout(60):
        await call.write(_PAYLOAD)
        await call.read()


async def _echo(requests: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
    async for request in requests:
        await context.write(request)


async def _serve(port: int) -> None:
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("raw", {"Echo": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(_serve(int(sys.argv[1])))
