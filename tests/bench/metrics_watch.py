"""How soon a watcher has a point that lies in the spool of a box, through a real shipper."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from protos.metrics.v1 import metrics_pb2
from protos.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from protos.scheduler.v1 import session_pb2
from runner_agent.attempts import AttemptFolder
from runner_agent.config import Server
from runner_agent.shipper import Shipper
from tests.support.metrics_service import KEY, TOKEN, metadata

_POINTS = 300
# From one line to the next, so that every phase of every loop is met.
_SHORTEST_S, _LONGEST_S = 0.01, 0.09


async def measure_watch(
    report: Callable[[str, float], None],
    channel: grpc.aio.Channel,
    port: int,
    folder: Path,
    job_id: str,
    attempt_id: str,
) -> None:
    """watch_p50_ms and watch_p99_ms: from the line in the spool to the response of WatchMetrics that holds it."""
    attempt = AttemptFolder(folder / "attempts", attempt_id)
    attempt.make(session_pb2.Assignment(attempt_id=attempt_id, job_id=job_id))
    shipper = Shipper(Server("nowhere:1", tls=False), KEY, random.random)
    shipper.ship_to(f"127.0.0.1:{port}")
    shipper.hold(attempt)
    call = MetricsServiceStub(channel).WatchMetrics(
        metrics_pb2.WatchMetricsRequest(job_id=job_id, names=["train/loss"]), metadata=metadata(TOKEN), timeout=120
    )
    await call.read()
    shipping = asyncio.create_task(shipper.run())
    written: dict[int, float] = {}
    writing = asyncio.create_task(_write(attempt.spool / "trainer.jsonl", written))
    took_ms: list[float] = []
    async with asyncio.timeout(110):
        while len(took_ms) < _POINTS:
            response = await call.read()
            now = time.perf_counter()
            took_ms += [(now - written[step]) * 1000 for series in response.series for step in series.steps]
    call.cancel()
    for task in (writing, shipping):
        task.cancel()
    await asyncio.gather(writing, shipping, return_exceptions=True)
    took_ms.sort()
    report("watch_p50_ms", took_ms[len(took_ms) // 2])
    report("watch_p99_ms", took_ms[len(took_ms) * 99 // 100])


async def _write(spool: Path, written: dict[int, float]) -> None:
    """A line each few hundredths of a second, as a trainer writes it; when each was there."""
    chosen = random.Random(1)
    with spool.open("a") as file:
        for step in range(_POINTS):
            points = {"step": step, "values": {"train/loss": 1 / (step + 1), "train/learning_rate": 0.001}}
            file.write(json.dumps({"at_ms": 1_763_800_000_000 + 50 * step, "points": points}) + "\n")
            file.flush()
            written[step] = time.perf_counter()
            await asyncio.sleep(chosen.uniform(_SHORTEST_S, _LONGEST_S))
