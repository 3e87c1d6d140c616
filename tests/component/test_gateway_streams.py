"""Streams through a real Envoy: no limit of time, many at once, a slow reader stops its sender, an end is an end."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from services.gateway.plan import Limits
from tests.support.eventually import eventually
from tests.support.gateway import Gateway, gateway_before
from tests.support.loop_thread import LoopThread
from tests.support.trial_service import CHUNKS, Trial, method, trial_service

SMALL = Limits(idle_connection_s=0.5, idle_answer_s=0.2, ping_interval_s=0.2, ping_timeout_s=5)
AT_ONCE = 1_100
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
async def trial() -> AsyncIterator[tuple[Trial, str]]:
    async with trial_service() as started:
        yield started


async def test_a_silent_stream_outlives_every_idle_connection(
    trial: tuple[Trial, str], shared_loop: LoopThread, tmp_path: Path
) -> None:
    service, address = trial
    with gateway_before(shared_loop, tmp_path, limits=SMALL, quota=address) as gateway:
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stream = channel.unary_stream(method("Wait"))(b"")
            assert await stream.read() == b"waiting"
            # Opened after the stream's last sign of life; it is ended for being idle, the stream is not.
            reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            writer.close()
            service.go_on.set()
            assert await stream.read() == b"done"
            assert await stream.code() == grpc.StatusCode.OK


async def test_more_streams_than_an_envoy_takes_by_itself(
    trial: tuple[Trial, str], shared_loop: LoopThread, tmp_path: Path
) -> None:
    service, address = trial
    with gateway_before(shared_loop, tmp_path, quota=address) as gateway:
        channels = [grpc.aio.insecure_channel(gateway.address, options=_OWN_CONNECTION) for _ in range(2)]
        streams: list[grpc.aio.UnaryStreamCall[bytes, bytes]] = []
        async with asyncio.timeout(30):
            # A server of gRPC itself refuses some of a thousand calls that begin in one instant.
            while len(streams) < AT_ONCE:
                more = [channels[number % 2].unary_stream(method("Wait"))(b"") for number in range(100)]
                assert {await stream.read() for stream in more} == {b"waiting"}
                streams += more
        assert service.waiting == AT_ONCE
        service.go_on.set()
        async with asyncio.timeout(30):
            assert {await stream.read() for stream in streams} == {b"done"}
        for channel in channels:
            await channel.close()


async def test_those_who_do_not_read_stop_their_own_senders_and_nobody_elses(
    trial: tuple[Trial, str], shared_loop: LoopThread, tmp_path: Path
) -> None:
    service, address = trial
    small = Limits(stream_window_bytes=65_536, connection_window_bytes=131_072)
    with gateway_before(shared_loop, tmp_path, limits=small, quota=address) as gateway:
        slow = [stuck_reader(gateway, number) for number in range(20)]
        await eventually(lambda: len(service.sent) == len(slow), 20, "the first chunk of each slow reader")
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            flood = channel.unary_stream(method("Flood"))(b"fast", timeout=30)
            chunks = [len(chunk) async for chunk in flood]
        assert len(chunks) == CHUNKS
        assert service.sent.pop(b"fast") == CHUNKS
        assert max(service.sent.values()) < CHUNKS / 2, "what nobody reads is not kept in the gateway"
        for connection in slow:
            connection.close()


def stuck_reader(gateway: Gateway, number: int) -> socket.socket:
    """A browser that asks for a flood and never reads it."""
    connection = socket.create_connection((gateway.host, gateway.port), timeout=10)
    head = (
        f"POST {method('Flood')} HTTP/1.1\r\nHost: {gateway.address}\r\n"
        "content-type: application/grpc-web+proto\r\ncontent-length: 9\r\n\r\n"
    )
    connection.sendall(head.encode() + b"\x00\x00\x00\x00\x04" + f"{number:4}".encode())
    return connection


async def test_a_client_that_goes_away_ends_its_stream_at_the_service(
    trial: tuple[Trial, str], shared_loop: LoopThread, tmp_path: Path
) -> None:
    service, address = trial
    with gateway_before(shared_loop, tmp_path, quota=address) as gateway:
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stream = channel.unary_stream(method("Wait"))(b"")
            assert await stream.read() == b"waiting"
        await eventually(lambda: service.waiting == 0, 10, "the end of the stream at the service")


async def test_a_service_that_is_gone_is_unavailable_and_serves_again_when_it_is_back(
    shared_loop: LoopThread, tmp_path: Path
) -> None:
    async with trial_service() as (_, address):
        with gateway_before(shared_loop, tmp_path, quota=address) as gateway:
            async with grpc.aio.insecure_channel(gateway.address) as channel:
                echo = channel.unary_unary(method("Echo"))
                assert await echo(b"a") == b"a"
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary("/tether.metrics.v1.MetricsService/QueryMetrics")(b"", timeout=10)
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
                assert await echo(b"b") == b"b", "the others go on"
                assert gateway.get("/healthz").status == 200


async def test_methods_that_nobody_has_are_unimplemented(
    trial: tuple[Trial, str], shared_loop: LoopThread, tmp_path: Path
) -> None:
    with gateway_before(shared_loop, tmp_path, quota=trial[1]) as gateway:
        for path in ("/tether.nowhere.v1.Service/Method", method("Nothing")):
            async with grpc.aio.insecure_channel(gateway.address) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary(path)(b"", timeout=10)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        async with grpc.aio.insecure_channel(gateway.address, [("grpc.default_authority", "evil.example")]) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(method("Echo"))(b"", timeout=10)
        assert "known as" in str(caught.value.details())


async def test_deadlines_and_metadata_reach_the_service_and_what_only_proxies_say_does_not(
    trial: tuple[Trial, str], shared_loop: LoopThread, tmp_path: Path
) -> None:
    service, address = trial
    with gateway_before(shared_loop, tmp_path, quota=address) as gateway:
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            metadata = [("authorization", "Bearer tt_a"), ("x-envoy-max-retries", "9"), ("x-request-id", "mine")]
            await channel.unary_unary(method("Echo"))(b"", timeout=10, metadata=metadata)
            assert service.metadata["authorization"] == "Bearer tt_a"
            assert service.metadata["x-request-id"] != "mine"
            assert not [name for name in service.metadata if name.startswith("x-envoy-max")]
            stream = channel.unary_stream(method("Wait"))(b"", timeout=0.3)
            assert await stream.read() == b"waiting"
            assert await stream.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: service.waiting == 0, 10, "the deadline at the service")


async def test_killed_it_comes_back_and_calls_go_on(
    trial: tuple[Trial, str], shared_loop: LoopThread, tmp_path: Path
) -> None:
    with gateway_before(shared_loop, tmp_path, quota=trial[1]) as gateway:
        options = [(f"grpc.{bound}_reconnect_backoff_ms", 50) for bound in ("initial", "min", "max")]
        async with grpc.aio.insecure_channel(gateway.address, options=options) as channel:
            stream = channel.unary_stream(method("Wait"))(b"")
            assert await stream.read() == b"waiting"
            kill(gateway)
            assert await stream.code() == grpc.StatusCode.UNAVAILABLE
            echo = channel.unary_unary(method("Echo"))
            assert await eventually(lambda: echo(b"a", timeout=5), 20, "an answer of the new process") == b"a"


def kill(gateway: Gateway) -> None:
    identity = gateway.supervised.identity
    assert identity is not None
    identity.signal(signal.SIGKILL)
