"""The gRPC side of the session: one stream at a time, messages up and down, and why it ended."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeAlias

import grpc.aio

from protos.scheduler.v1 import session_pb2, session_pb2_grpc
from runner_agent.config import Server
from runner_agent.session_messages import Closed, Input, Received

# More than the heartbeats and reports that the session has under way; a full queue means a stream that is stuck.
MOST_OUTGOING = 256
CLOSE_TIMEOUT_S = 2.0
CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", 8 * 1024 * 1024),
    # A ping for each acknowledgement, to measure a link that carries next to nothing.
    ("grpc.http2.bdp_probe", 0),
    # Reconnecting is decided by the session alone; each stream has a connection of its own.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
SessionCall: TypeAlias = "grpc.aio.StreamStreamCall[session_pb2.ConnectRequest, session_pb2.ConnectResponse]"
REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def open_channel(server: Server) -> grpc.aio.Channel:
    if server.tls:
        return grpc.aio.secure_channel(server.target, grpc.ssl_channel_credentials(), options=CHANNEL_OPTIONS)
    return grpc.aio.insecure_channel(server.target, options=CHANNEL_OPTIONS)


def credentials_of(key: str) -> tuple[tuple[str, str], ...]:
    """Metadata that authenticates a runner."""
    return (("authorization", f"Bearer {key}"),)


class Link:
    """Feeds `Received` and, once for each stream that ends by itself, `Closed`."""

    def __init__(self, server: Server, key: str, feed: Callable[[Input], None]) -> None:
        self._server = server
        self._key = key
        self._feed = feed
        self._task: asyncio.Task[None] | None = None
        self._outgoing: asyncio.Queue[session_pb2.ConnectRequest] = asyncio.Queue()

    def dial(self, stream: int, hello: session_pb2.Hello) -> None:
        """Open stream number `stream`, on a new connection."""
        self._abandon()
        self._outgoing = asyncio.Queue(MOST_OUTGOING)
        self._outgoing.put_nowait(session_pb2.ConnectRequest(hello=hello))
        self._task = asyncio.create_task(self._run(stream, self._outgoing))

    def send(self, message: session_pb2.ConnectRequest) -> None:
        """Queue a message. Where the stream is stuck it is dropped; the silence that follows ends the stream."""
        with contextlib.suppress(asyncio.QueueFull):
            self._outgoing.put_nowait(message)

    def hangup(self) -> None:
        """Abandon the current stream without a word."""
        self._abandon()

    async def close(self) -> None:
        task = self._task
        self._abandon()
        if task is not None:
            await asyncio.wait([task], timeout=CLOSE_TIMEOUT_S)

    def _abandon(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, stream: int, outgoing: asyncio.Queue[session_pb2.ConnectRequest]) -> None:
        channel = open_channel(self._server)
        writing: asyncio.Task[None] | None = None
        try:
            stub = session_pb2_grpc.RunnerSessionServiceStub(channel)
            call: SessionCall = stub.Connect(metadata=credentials_of(self._key))
            writing = asyncio.create_task(_write(call, outgoing))
            try:
                async for message in call:
                    self._feed(Received(stream, message))
                self._feed(Closed(stream, f"{self._server.target} ended the session"))
            except grpc.aio.AioRpcError as error:
                sentence, refused = _explain(self._server, error)
                self._feed(Closed(stream, sentence, refused))
        finally:
            if writing is not None:
                writing.cancel()
            await asyncio.shield(channel.close())


async def _write(call: SessionCall, outgoing: asyncio.Queue[session_pb2.ConnectRequest]) -> None:
    # Why a write fails is told to the reader of the stream.
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while True:
            await call.write(await outgoing.get())


def _explain(server: Server, error: grpc.aio.AioRpcError) -> tuple[str, bool]:
    """One sentence for the box's owner, and whether the platform refuses this key or box."""
    code, details = error.code(), error.details() or ""
    if code in REFUSALS:
        return details or f"{server.target} refuses this runner's key; install the runner again with a new key", True
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"cannot reach the platform at {server.target}: {details}", False
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"{server.target} is not a Tether scheduler; see whether the server's address is right", False
    return f"{server.target} ended the session: {details or code.name}", False
