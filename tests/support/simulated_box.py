"""A box without hardware that speaks the session's protocol and does what it is told: starts, stops and reports."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc

from protos.common.v1.inventory_pb2 import Gpu, Inventory
from protos.scheduler.v1 import session_pb2 as pb
from protos.scheduler.v1.session_pb2_grpc import RunnerSessionServiceStub
from protos.training.v1.training_pb2 import EndReason
from tests.support.servers import bearer

_GIB = 1 << 30
_HEARTBEAT_S = 5.0


def _elapsed_s() -> float:
    return asyncio.get_running_loop().time()


class SimulatedBox:
    """One runner's box. Each training lasts as long as `chance` says, unless it is stopped; then it ends at once.

    Moments are told as a box tells them: the platform's time of the last acknowledgement, and what elapsed since.
    """

    def __init__(
        self, channel: grpc.aio.Channel, key: str, gpus: Sequence[str], chance: random.Random, longest_s: float
    ) -> None:
        self._call = RunnerSessionServiceStub(channel).Connect(metadata=bearer(key))
        self._key, self._gpus, self._chance, self._longest_s = key, gpus, chance, longest_s
        self._anchor = (0, 0.0)
        # Attempts that were ever told to run: each is started once.
        self._known: set[str] = set()
        self._training: asyncio.Task[None] | None = None
        self._stop: asyncio.Future[pb.Assignment] | None = None
        self._online = asyncio.Event()

    async def online(self) -> None:
        async with asyncio.timeout(30):
            await self._online.wait()

    async def run(self) -> None:
        """Serve one session until cancelled."""
        gpus = [Gpu(uuid=f"GPU-{self._key[-6:]}-{n}", type=g, vram_bytes=24 * _GIB) for n, g in enumerate(self._gpus)]
        inventory = Inventory(gpus=gpus, cpu_ram_bytes=64 * _GIB, cpu_cores=8, hostname="box", simulated=True)
        hello = pb.Hello(installation_id=self._key[-16:], agent_version="1", boot_id="b", inventory=inventory)
        await self._call.write(pb.ConnectRequest(hello=hello))
        beating = asyncio.create_task(self._beat())
        try:
            while True:
                message = await self._call.read()
                assert isinstance(message, pb.ConnectResponse), f"the session ended: {await self._call.details()}"
                self._hear(message)
        finally:
            beating.cancel()
            if self._training is not None:
                self._training.cancel()
            self._call.cancel()

    async def _beat(self) -> None:
        sequence = 0
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            sequence += 1
            await self._call.write(pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=sequence)))

    def _hear(self, message: pb.ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "welcome":
                self._anchor = (message.welcome.platform_at_ms, _elapsed_s())
                self._online.set()
            case "heartbeat_ack":
                self._anchor = (message.heartbeat_ack.platform_at_ms, _elapsed_s())
            case "directive" if message.directive.HasField("attempt"):
                self._obey(message.directive.attempt)

    def _obey(self, wanted: pb.Assignment) -> None:
        if wanted.attempt_id not in self._known:
            self._known.add(wanted.attempt_id)
            self._stop = asyncio.get_running_loop().create_future()
            self._training = asyncio.create_task(self._train(wanted, self._stop))
        if wanted.stop_reason and self._stop is not None and not self._stop.done():
            self._stop.set_result(wanted)

    async def _train(self, wanted: pb.Assignment, stop: "asyncio.Future[pb.Assignment]") -> None:
        started_at = self._moment()
        await self._report(wanted, 1, started=pb.Started(at=started_at, weights="random"))
        await asyncio.wait([stop], timeout=self._chance.uniform(0.02, self._longest_s))
        now = self._moment()
        ended = pb.Ended(outcome=pb.OUTCOME_FINISHED, started_at=started_at, ended_at=now, steps=9, epochs=1)
        if stop.done():
            ended.outcome, ended.reason = pb.OUTCOME_KILLED, stop.result().stop_reason
            ended.stop_began_at.CopyFrom(now)
            ended.message = stop.result().stop_message
        elif self._chance.random() < 0.1:
            ended.outcome, ended.reason = pb.OUTCOME_FAILED, EndReason.END_REASON_INFRASTRUCTURE
            ended.message = "the disk is full"
        await self._report(wanted, 2, ended=ended)

    async def _report(self, of: pb.Assignment, sequence: int, **fact: pb.Started | pb.Ended) -> None:
        report = pb.Report(attempt_id=of.attempt_id, job_id=of.job_id, sequence=sequence, **fact)  # type: ignore[arg-type]
        await self._call.write(pb.ConnectRequest(report=report))

    def _moment(self) -> pb.BoxMoment:
        platform_at_ms, at_s = self._anchor
        return pb.BoxMoment(anchor_at_ms=platform_at_ms, elapsed_ms=round((_elapsed_s() - at_s) * 1000))


@asynccontextmanager
async def online(boxes: Sequence[SimulatedBox]) -> AsyncIterator[None]:
    """All of them are connected until the end of the block. An error of a box is raised there."""
    runs = [asyncio.create_task(box.run()) for box in boxes]
    try:
        for box in boxes:
            await box.online()
        yield
        for run in runs:
            assert not run.done(), f"a box ended: {run.exception()}"
    finally:
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
