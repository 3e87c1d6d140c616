"""What the scheduler reads of the files that trainings leave: those that are there, however many were removed."""

import asyncpg
import pytest

from protos.training.v1.training_pb2 import Checkpoint, TrainingSpec
from services.migrations import migrate
from services.postgres import open_pool
from services.scheduler.artifacts import Artifacts, Stored
from services.scheduler.bootstrap import MIGRATIONS
from services.scheduler.domain.artifact import CHECKPOINT, Artifact
from services.scheduler.domain.job import Job
from services.scheduler.serde import dump
from services.scheduler.store import Store
from tests.support.log import create_log
from tests.support.platform import DatabaseUrls

BEFORE = 6


def saved(number: int, removed_position: int = 0) -> Artifact:
    version = 2 if removed_position else 1
    return Artifact(
        f"af_{number}", "ws", version, "jb", "at", CHECKPOINT, f"step-{number}", "", number, removed_position
    )


def job() -> Job:
    checkpoints = (Checkpoint(name="step-9", attempt_id="at"),)
    return Job("jb", "ws", 1, 1, "first", TrainingSpec(), "", 0, "", {}, 0, (), checkpoints=checkpoints)


@pytest.fixture
async def old(database: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory) -> DatabaseUrls:
    """A database of an earlier version, with files that are there and files that were removed."""
    await create_log(database)
    folder = tmp_path_factory.mktemp("migrations")
    for file in sorted(MIGRATIONS.glob("*.sql"))[:BEFORE]:
        (folder / file.name).write_text(file.read_text())
    connection = await asyncpg.connect(database.scheduler)
    try:
        assert await migrate(connection, "scheduler", folder) == BEFORE
        for one in (saved(7, removed_position=20), saved(8, removed_position=30), saved(9)):
            await connection.execute(
                "insert into scheduler.artifacts values ($1, 'jb', true, $2, $3)",
                one.artifact_id,
                one.version,
                dump(one),
            )
        await migrate(connection, "scheduler", MIGRATIONS)
    finally:
        await connection.close()
    return database


async def test_a_view_reads_what_is_there_and_one_of_the_past_what_was(old: DatabaseUrls) -> None:
    pool = await open_pool(old.scheduler, "test")
    try:
        artifacts = Artifacts(pool, Store(pool))
        assert await artifacts.of([job()]) == {"jb": Stored([saved(9)], 5)}
        # As after an older version, which does not know the column and leaves it as it was.
        await pool.execute("update scheduler.artifacts set there = true")
        assert await artifacts.of([job()]) == {"jb": Stored([saved(9)], 5)}
        found = {position: [one.name for one in await artifacts.at(job(), position)] for position in (7, 19, 25, 30)}
        assert found == {
            7: ["step-7"],
            19: ["step-7", "step-8", "step-9"],
            25: ["step-8", "step-9"],
            30: ["step-9"],
        }
    finally:
        await pool.close()
