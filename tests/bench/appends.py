"""Appending for as long as something else goes on: as much as goes, or so much a second."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator

from protos.events.v1.job_pb2 import JobStarted
from services.eventlog.append import Append, StreamAppend
from tests.support.log import appender_on

# Commands that wait at one moment, as in the measurement `append`.
_WAITING = 3000
_PACE_TICK_S = 0.01
_EVENT = JobStarted(attempt_id="at_k3v9q2m7x4p8w1zt", started_at_ms=1_790_000_000_000, weights="random")

_numbers = itertools.count()


async def append_saturated(url: str, done: Callable[[], bool]) -> float:
    """Events per second through an appender that 3,000 commands wait for, one event each."""
    appended = 0
    async with appender_on(url) as appender:

        async def one_after_another() -> None:
            nonlocal appended
            while not done():
                await appender.append(_command())
                appended += 1

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(_WAITING)))
        return appended / (time.perf_counter() - began)


async def append_paced(url: str, done: Callable[[], bool], per_s: int) -> tuple[float, list[float]]:
    """Events per second, and the milliseconds that each command took, sorted, where so many are offered each second.

    What cannot be taken is given up, so that the rate falls where the appender does not keep up.
    """
    took_ms: list[float] = []
    waiting = 0
    began = time.perf_counter()
    async with appender_on(url) as appender, asyncio.TaskGroup() as group:

        async def one() -> None:
            nonlocal waiting
            waiting += 1
            called = time.perf_counter()
            await appender.append(_command())
            took_ms.append((time.perf_counter() - called) * 1000)
            waiting -= 1

        for due_s in _ticks():
            if done():
                break
            # A tick that is late is made up for: what is offered does not fall when the machine is slow.
            await asyncio.sleep(due_s - time.perf_counter())
            for _ in range(round(per_s * _PACE_TICK_S)):
                if waiting < _WAITING:
                    group.create_task(one())
    return len(took_ms) / (time.perf_counter() - began), sorted(took_ms)


def _ticks() -> Iterator[float]:
    began = time.perf_counter()
    return (began + number * _PACE_TICK_S for number in itertools.count(1))


def _command() -> Append:
    stream = StreamAppend("job", f"jb_bench_{next(_numbers)}", 0, [_EVENT])
    return Append("ws_bench", [stream], actor="service:bench")
