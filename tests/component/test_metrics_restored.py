"""A platform that was restored takes again from the box what it had acknowledged and lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from protos.scheduler.v1 import session_pb2
from runner_agent.attempts import AttemptFolder
from runner_agent.config import Server
from runner_agent.shipper import Shipper
from tests.support.eventually import eventually
from tests.support.metrics_service import ATTEMPT, JOB, KEY, log_of, serving
from tests.support.platform import DatabaseUrls

BACKED_UP, DELIVERED, WRITTEN = 300, 600, 700


def write(attempt: AttemptFolder, first: int, last: int) -> None:
    """One point a record; a step is its record's number."""
    with (attempt.spool / "trainer.jsonl").open("a") as file:
        for step in range(first, last + 1):
            file.write(json.dumps({"at_ms": step, "points": {"step": step, "values": {"loss": step}}}) + "\n")


def give_room_back(attempt: AttemptFolder, sequence: int) -> None:
    """What the box does with acknowledged records on its disk."""
    lines = (attempt.spool / "trainer.jsonl").read_bytes().splitlines(keepends=True)
    place = {"sequence": sequence, "offset": sum(map(len, lines[:sequence]))}
    (attempt.spool / "trainer.given_back").write_text(json.dumps(place))


async def restore_to(database: DatabaseUrls, sequence: int) -> None:
    connection = await asyncpg.connect(database.metrics)
    try:
        await connection.execute("delete from metrics.chunks where sequence > $1", sequence)
        await connection.execute("update metrics.spools set sequence = $1", sequence)
    finally:
        await connection.close()


@asynccontextmanager
async def shipping(attempt: AttemptFolder, port: int) -> AsyncIterator[Shipper]:
    shipper = Shipper(Server("nowhere:1", tls=False), KEY, lambda: 0.0)
    shipper.ship_to(f"127.0.0.1:{port}")
    shipper.hold(attempt)
    running = asyncio.create_task(shipper.run())
    try:
        yield shipper
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize("lost", [0, 450], ids=["all of it is on the disk", "some of it is gone"])
async def test_what_the_box_still_holds_comes_again_once_and_in_order(
    database: DatabaseUrls, tmp_path: Path, lost: int
) -> None:
    attempt = AttemptFolder(tmp_path, ATTEMPT)
    attempt.make(session_pb2.Assignment(attempt_id=ATTEMPT, job_id=JOB))
    async with log_of(database) as log, serving(database) as service:
        await log.people()
        await log.job(JOB, ATTEMPT)

        async def has(last: int) -> bool:
            steps = [step for step, _ in (await service.points()).get("loss", [])]
            return bool(steps) and steps[-1] == last

        async with shipping(attempt, service.port):
            for first, last in ((1, BACKED_UP), (BACKED_UP + 1, DELIVERED)):
                write(attempt, first, last)
                await eventually(lambda last=last: has(last), 15, f"step {last}")  # type: ignore[misc]
        await restore_to(database, BACKED_UP)
        if lost:
            give_room_back(attempt, lost)
        async with shipping(attempt, service.port) as shipper:
            write(attempt, DELIVERED + 1, WRITTEN)
            await eventually(lambda: has(WRITTEN), 15, "the newest step")
            await eventually(lambda: shipper.backlog_bytes() == 0, 15, "every acknowledgement")
        steps = [step for step, _ in (await service.points())["loss"]]
        assert steps == [step for step in range(1, WRITTEN + 1) if not BACKED_UP < step <= lost]
