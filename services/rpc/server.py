"""A gRPC server as every service runs it: health, reflection, limits, and a graceful end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.rpc.settings import StartRefused
from services.rpc.shell import Shell

_log = structlog.get_logger()

# A request larger than this is refused by gRPC itself, one below it by the rule of its field.
MAX_MESSAGE_BYTES = 16 << 20

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Agents ping more often than gRPC's default allows; without this they get GOAWAY too_many_pings.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Calls that begin in one instant wait for a moment until they are taken up; gRPC's default turns some of a thousand
    # away, and a fleet that comes back is ten thousand.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    # A second server on the same port must fail, not share it.
    ("grpc.so_reuseport", 0),
]

# Each message that is read makes gRPC measure the link with a ping, to grow its window: a third of what a heartbeat
# costs, for messages of a few bytes.
_QUIET_STREAMS = ("grpc.http2.bdp_probe", 0)

# A generated `add_…Servicer_to_server`, the servicer, and the service's full name.
Mount = tuple[Callable[[Any, Any], None], Any, str]


class Server:
    """`start`, then `stop`; health is SERVING in between. `quiet_streams`: many streams, little in each."""

    def __init__(self, listen: str, mounts: Sequence[Mount], shell: Shell, *, quiet_streams: bool = False) -> None:
        self._listen = listen
        options = [*_OPTIONS, _QUIET_STREAMS] if quiet_streams else _OPTIONS
        self._server = grpc.aio.server(interceptors=[shell], options=options)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [reflection.SERVICE_NAME, health.SERVICE_NAME]
        for add, servicer, name in mounts:
            add(servicer, self._server)
            names.append(name)
        self._names = names
        reflection.enable_server_reflection(names, self._server)
        self.port = 0

    async def start(self) -> None:
        """Bind and serve. Raises StartRefused where the address is taken."""
        try:
            self.port = self._server.add_insecure_port(self._listen)
        except RuntimeError:
            raise StartRefused(
                f"cannot listen on {self._listen}: the address is taken or not of this machine"
            ) from None
        await self._server.start()
        await self._set(health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving", address=self._listen, port=self.port)

    async def stop(self, grace_s: float, drain: Callable[[], Awaitable[None]] | None = None) -> None:
        """Health first, then `drain` (which tells long streams to go), then the rest within `grace_s`."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)
        if drain is not None:
            await drain()
        await self._server.stop(grace_s)

    async def _set(self, status: Any) -> None:
        await asyncio.gather(*(self._health.set(name, status) for name in ["", *self._names]))
