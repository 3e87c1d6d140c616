"""Delivers spools to the platform: batches up, cumulative acknowledgements down, again after every outage."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import grpc.aio
import structlog

from protos.metrics.v1 import ingest_pb2, ingest_pb2_grpc
from runner_agent.attempts import AttemptFolder
from runner_agent.config import Server, parse_server
from runner_agent.link import credentials_of, open_channel
from runner_agent.spool import SPOOLS, Batch, Place, Spool

POLL_INTERVAL_S = 0.05
# Unacknowledged batches over all spools; what comes after waits on disk.
MOST_IN_FLIGHT = 8
ACKNOWLEDGE_TIMEOUT_S = 15.0
LONGEST_BACKOFF_S = 15.0

IngestCall: TypeAlias = "grpc.aio.StreamStreamCall[ingest_pb2.ReportRequest, ingest_pb2.ReportResponse]"

log = structlog.get_logger()


@dataclass
class Lane:
    """One spool on its way: acknowledged ≤ sent ≤ written."""

    attempt: AttemptFolder
    job_id: str
    spool: Spool
    sent: Place = field(default_factory=Place)
    # Ends of the batches that are under way, in order.
    in_flight: list[Place] = field(default_factory=list)
    # The platform was restored and knows less than it had acknowledged; so until it has taken something again.
    restored: bool = False

    def rewind(self) -> None:
        self.sent = self.spool.acknowledged
        self.in_flight.clear()


class Shipper:
    """Ships every attempt that it holds until all of it is acknowledged and the attempt is over."""

    def __init__(self, server: Server, key: str, jitter: Callable[[], float]) -> None:
        self._server = server
        self._target: Server | None = None
        self._key = key
        self._jitter = jitter
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._over: set[str] = set()
        self._moved = asyncio.Event()
        self._failures = 0

    def ship_to(self, address: str) -> None:
        """Where the platform takes records; empty: at the session's address. Known from the first Welcome on."""
        try:
            # The key goes there too: never with less protection than the session has.
            target = replace(parse_server(address), tls=self._server.tls) if address else self._server
        except ValueError:
            log.warning("the platform told an address for records that cannot be used", address=address)
            return
        if target != self._target:
            self._target = target
            self._moved.set()

    @property
    def target(self) -> Server | None:
        """Where the platform takes records and artifacts; None until it has said so."""
        return self._target

    def hold(self, attempt: AttemptFolder) -> None:
        """Ship this attempt from now on."""
        job_id = attempt.assignment().job_id
        for name in SPOOLS:
            key = (attempt.attempt_id, name)
            if key not in self._lanes:
                lane = Lane(attempt, job_id, Spool(attempt.spool, name))
                lane.rewind()
                self._lanes[key] = lane
        self._moved.set()

    def over(self, attempt_id: str) -> None:
        """Nothing is written to the attempt's spools any more."""
        self._over.add(attempt_id)

    def backlog_bytes(self) -> int:
        return sum(max(0, lane.spool.size() - lane.spool.acknowledged.offset) for lane in self._lanes.values())

    async def run(self) -> None:
        """Ship until cancelled; a stream that breaks is opened again, after a pause with full jitter."""
        while True:
            self._moved.clear()
            if self._target is None or not self._lanes:
                await self._moved.wait()
                continue
            try:
                await self._stream(self._target)
            except (grpc.aio.AioRpcError, TimeoutError, OSError) as error:
                reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                log.warning("records cannot be delivered now", target=self._target.target, reason=reason)
            if self._lanes:
                cap_s = min(LONGEST_BACKOFF_S, 0.5 * 2 ** min(self._failures, 5))
                self._failures += 1
                await asyncio.sleep(self._jitter() * cap_s)

    async def _stream(self, target: Server) -> None:
        """One stream; returns when everything is delivered or the platform ends it.

        Raises TimeoutError when an acknowledgement is overdue or the platform has moved, AioRpcError when it breaks.
        """
        for lane in self._lanes.values():
            lane.rewind()
        progress = asyncio.Event()
        channel = open_channel(target)
        try:
            stub = ingest_pb2_grpc.IngestServiceStub(channel)
            call: IngestCall = stub.Report(metadata=credentials_of(self._key))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._send(call)), group.create_task(self._watch(progress, target))]
                async for response in call:
                    self._acknowledged(response)
                    progress.set()
                for task in tasks:
                    task.cancel()
        except* (grpc.aio.AioRpcError, OSError) as errors:
            raise _first(errors) from None
        finally:
            await asyncio.shield(channel.close())

    async def _watch(self, progress: asyncio.Event, target: Server) -> None:
        """Raise TimeoutError when something is under way and nothing is acknowledged, or the platform has moved."""
        while self._target == target:
            progress.clear()
            waiting = any(lane.in_flight for lane in self._lanes.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ACKNOWLEDGE_TIMEOUT_S):
                    await progress.wait()
            if waiting and not progress.is_set():
                raise TimeoutError(f"no acknowledgement for {ACKNOWLEDGE_TIMEOUT_S:g} s")
        raise TimeoutError("the platform takes records at another address now")

    async def _send(self, call: IngestCall) -> None:
        """Send what is written, as far as the window allows, until nothing is held any more."""
        # Why a write fails is told to the reader of the stream.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while self._lanes:
                for key, lane in list(self._lanes.items()):
                    while sum(len(one.in_flight) for one in self._lanes.values()) < MOST_IN_FLIGHT:
                        batch = lane.spool.read(lane.sent)
                        if batch is None:
                            self._finish(key, lane)
                            break
                        lane.sent = batch.end
                        lane.in_flight.append(batch.end)
                        await call.write(_request(lane, batch))
                await asyncio.sleep(POLL_INTERVAL_S)
            await call.done_writing()

    def _finish(self, key: tuple[str, str], lane: Lane) -> None:
        """Let go of a spool of which everything is acknowledged and to which nothing more comes."""
        attempt_id = lane.attempt.attempt_id
        if attempt_id not in self._over or lane.in_flight:
            return
        if sum(attempt == attempt_id for attempt, _ in self._lanes) == 1:
            try:
                lane.attempt.save_shipped()
            except OSError:
                # A full disk; tried again with the next look.
                return
            self._over.discard(attempt_id)
        del self._lanes[key]

    def _acknowledged(self, response: ingest_pb2.ReportResponse) -> None:
        self._failures = 0
        if response.refused:
            log.warning("records were refused", attempt_id=response.attempt_id, reason=response.refused)
        lane = self._lanes.get((response.attempt_id, response.spool))
        if lane is None:
            return
        settled = [place for place in lane.in_flight if place.sequence <= response.acknowledged_sequence]
        if settled:
            del lane.in_flight[: len(settled)]
            lane.restored = False
            lane.spool.acknowledge(settled[-1])
        elif response.acknowledged_sequence < lane.spool.acknowledged.sequence and not lane.restored:
            log.warning("the platform knows less than it acknowledged", attempt_id=response.attempt_id)
            lane.restored = True
            lane.spool.forget_acknowledgements()
            lane.rewind()


def _request(lane: Lane, batch: Batch) -> ingest_pb2.ReportRequest:
    return ingest_pb2.ReportRequest(
        attempt_id=lane.attempt.attempt_id,
        job_id=lane.job_id,
        spool=lane.spool.name,
        first_sequence=batch.first_sequence,
        records=batch.records,
        # Only of the first batch: behind it a gap is a mistake, and nothing may be passed over.
        earlier_lost=lane.restored and batch.first_sequence == lane.spool.acknowledged.sequence + 1,
    )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
