"""The scheduler's read models are a function of the log."""

from protos.scheduler.v1.session_pb2 import BoxMoment, Checkpointed, Ended, Outcome, Started
from protos.training.v1.training_pb2 import Checkpoint
from services.postgres import Pool
from services.scheduler.rebuild import rebuild
from tests.support.control import Control, control_plane
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls

TABLES = {"workspaces": "workspace_id", "runners": "runner_id", "jobs": "job_id"}


async def dump(pool: Pool) -> dict[str, list[dict[str, object]]]:
    return {
        table: [dict(row) for row in await pool.fetch(f"select * from scheduler.{table} order by {key}")]
        for table, key in TABLES.items()
    }


async def a_day(control: Control) -> None:
    """Something of everything: runs, waits, fails, is suspended."""
    await control.dataset()
    await control.create_runner("never connected")
    _, box = await control.box()
    await box.connect()
    at = BoxMoment(anchor_at_ms=1)
    for number in range(3):
        await control.submit(name=f"job {number}")
        assignment = await box.assignment()
        await box.report(assignment, 1, started=Started(at=at))
        await box.report(assignment, 2, checkpointed=Checkpointed(checkpoint=Checkpoint(name="c", best=True)))
        if number < 2:
            outcome = (Outcome.OUTCOME_FINISHED, Outcome.OUTCOME_FAILED)[number]
            await box.report(assignment, 3, ended=Ended(outcome=outcome, started_at=at, ended_at=at))
    await control.submit(runner="", queue=True)


async def test_read_models_dropped_and_rebuilt_are_equal(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        await a_day(control)
        before = await dump(pool)
        assert [len(rows) for rows in before.values()] == [1, 2, 4]
        async with pool.acquire() as connection:
            await rebuild(connection, pool)
        assert await dump(pool) == before
