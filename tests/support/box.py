"""A box as the scheduler sees it: it speaks the session's protocol and does what the test says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from protos.common.v1.inventory_pb2 import Gpu, Inventory
from protos.scheduler.v1 import session_pb2 as pb
from protos.scheduler.v1.session_pb2_grpc import RunnerSessionServiceStub
from tests.support.servers import bearer

GIB = 1 << 30


def inventory(gpu: str = "NVIDIA A10G", count: int = 1, vram_gib: int = 24, ram_gib: int = 64) -> Inventory:
    return Inventory(
        gpus=[Gpu(uuid=f"GPU-{n}", type=gpu, vram_bytes=vram_gib * GIB) for n in range(count)],
        cpu_ram_bytes=ram_gib * GIB,
        cpu_cores=8,
        hostname="box-1",
        simulated=True,
    )


def hello(**more: Any) -> pb.Hello:
    return pb.Hello(
        **{"installation_id": "i-1", "agent_version": "1", "boot_id": "b-1", "inventory": inventory(), **more}
    )


class Box:
    """One session. `connect` says Hello; `next` returns what the scheduler says, in order."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._call = RunnerSessionServiceStub(channel).Connect(metadata=bearer(key))
        self._sequence = 0

    async def connect(self, greeting: pb.Hello | None = None) -> pb.Welcome:
        await self._call.write(pb.ConnectRequest(hello=greeting or hello()))
        return (await self.next("welcome")).welcome

    async def next(self, kind: str, timeout_s: float = 10) -> pb.ConnectResponse:
        """The next message of this kind; others are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self._call.read()
                assert message is not grpc.aio.EOF, f"the session ended with {await self._call.code()}"
                if message.WhichOneof("message") == kind:
                    return message

    async def assignment(self) -> pb.Assignment:
        """The next attempt that the scheduler wants."""
        while not (directive := (await self.next("directive")).directive).HasField("attempt"):
            continue
        return directive.attempt

    async def report(self, to: pb.Assignment, sequence: int, **fact: Any) -> pb.ReportAck:
        """Report a fact and return its acknowledgement."""
        report = pb.Report(attempt_id=to.attempt_id, job_id=to.job_id, sequence=sequence, **fact)
        await self._call.write(pb.ConnectRequest(report=report))
        return (await self.next("report_ack")).report_ack

    async def say(self, message: pb.ConnectRequest) -> None:
        await self._call.write(message)

    async def close(self) -> None:
        await self._call.done_writing()

    def drop(self) -> None:
        self._call.cancel()

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """How the scheduler ended the session."""
        return await self._call.code(), str(await self._call.details())


async def each(stream: AsyncIterator[Any], count: int) -> list[Any]:
    """The first `count` messages of a stream."""
    found = []
    async with asyncio.timeout(10):
        async for message in stream:
            found.append(message)
            if len(found) == count:
                break
    return found
