"""A fleet of simulated boxes in processes of their own, and the runners that they are."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict

import grpc

from protos.scheduler.v1.runner_pb2 import CreateRunnerRequest
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from tests.bench.fleet_boxes import Counts, Plan

_IN_FLIGHT = 200
_END_S = 30
# The reasons that are told when something takes too long.
_MOST_REASONS = 5

Auth = tuple[tuple[str, str], ...]


async def create_runners(channel: grpc.aio.Channel, auth: Auth, count: int, prefix: str = "box") -> list[str]:
    """Their secret keys, in the order of their numbers: `box-0`, `box-1`, …"""
    stub, room = RunnerServiceStub(channel), asyncio.Semaphore(_IN_FLIGHT)

    async def create(number: int) -> str:
        async with room:
            request = CreateRunnerRequest(name=f"{prefix}-{number}")
            return str((await stub.CreateRunner(request, metadata=auth, timeout=60)).secret_key)

    return await asyncio.gather(*map(create, range(count)))


class Fleet:
    """The counts of all its processes together."""

    def __init__(self) -> None:
        self._counts: list[Counts] = []
        self._moved = asyncio.Condition()
        # How late the boxes' processes have been at the worst: beyond a second the machine is too busy to measure.
        self.latest_s = 0.0

    @property
    def live(self) -> int:
        return sum(one.live for one in self._counts)

    @property
    def running(self) -> int:
        return sum(one.running for one in self._counts)

    @property
    def stops(self) -> int:
        return sum(one.stops for one in self._counts)

    @property
    def acknowledged_heartbeats(self) -> int:
        return sum(one.acknowledged_heartbeats for one in self._counts)

    @property
    def welcomes(self) -> int:
        return sum(one.welcomes for one in self._counts)

    @property
    def losses(self) -> int:
        return sum(one.losses for one in self._counts)

    def reasons(self) -> dict[str, int]:
        """Why connections were lost, the most frequent first."""
        total: dict[str, int] = {}
        for one in self._counts:
            for reason, count in one.reasons.items():
                total[reason] = total.get(reason, 0) + count
        return dict(sorted(total.items(), key=lambda item: -item[1])[:_MOST_REASONS])

    async def follow(self, output: asyncio.StreamReader) -> None:
        """Take in what one process tells, until its end."""
        mine = len(self._counts)
        self._counts.append(Counts())
        while line := await output.readline():
            async with self._moved:
                self._counts[mine] = Counts(**json.loads(line))
                self.latest_s = max(self.latest_s, self._counts[mine].late_s)
                self._moved.notify_all()

    async def all_live(self, sessions: int, timeout_s: float) -> None:
        """Until that many sessions are open. Raises AssertionError, with what went wrong most often."""
        await self._until(lambda: self.live >= sessions, timeout_s, f"{sessions} sessions")

    async def all_running(self, jobs: int, timeout_s: float) -> None:
        """Until that many trainings were started."""
        await self._until(lambda: self.running >= jobs, timeout_s, f"{jobs} trainings")

    async def welcomed(self, welcomes: int, timeout_s: float) -> None:
        """Until that many sessions have been opened since the start."""
        await self._until(lambda: self.welcomes >= welcomes, timeout_s, f"{welcomes} welcomes in all")

    async def losing(self, fewer_than: int, timeout_s: float) -> None:
        """Until fewer than that many sessions are open."""
        await self._until(lambda: self.live < fewer_than, timeout_s, f"fewer than {fewer_than} sessions")

    async def _until(self, reached: Callable[[], bool], timeout_s: float, what: str) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(reached)
        except TimeoutError:
            raise AssertionError(
                f"{what} did not come within {timeout_s:g} s: {self.live} live, {self.losses} lost, {self.reasons()}; "
                f"the boxes themselves were up to {self.latest_s:.1f} s late"
            ) from None


@asynccontextmanager
async def fleet_of(
    server: str, keys: Sequence[str], ramp_s: float, processes: int = 2, churn_s: float = 0
) -> AsyncIterator[Fleet]:
    """Boxes with these keys, until the end of the block."""
    fleet = Fleet()
    async with AsyncExitStack() as stack:
        for number in range(processes):
            plan = Plan(server, list(keys[number::processes]), ramp_s, churn_s, seed=number)
            await stack.enter_async_context(_process(fleet, plan))
        yield fleet


@asynccontextmanager
async def _process(fleet: Fleet, plan: Plan) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.fleet_boxes", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    following = asyncio.create_task(fleet.follow(process.stdout))
    try:
        process.stdin.write(json.dumps(asdict(plan)).encode() + b"\n")
        await process.stdin.drain()
        yield
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await following
