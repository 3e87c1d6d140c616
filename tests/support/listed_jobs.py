"""Rows of the scheduler's table of jobs, made without a log: many jobs at once, for lists of them."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg

from protos.scheduler.v1.job_pb2 import JobState
from services.migrations import migrate
from services.scheduler.bootstrap import MIGRATIONS
from services.scheduler.domain.job import OVER, Job
from services.scheduler.job_lists import columns
from services.scheduler.serde import dump
from tests.support import given
from tests.support.platform import DatabaseUrls

WORKSPACES, RUNNERS = ("ws_1", "ws_2"), [f"rn_{n}" for n in range(50)]
DATASETS, PEOPLE = [f"ds_{n}" for n in range(20)], [f"token:tok_{n}" for n in range(20)]
ARCHITECTURES, WORKFLOWS = [f"arch-{n}" for n in range(10)], ["", *(f"wf_{n}" for n in range(20))]
WORDS = ("Straße", "digits", "ÉTÉ", "night run", "100%_sure", "Baseline")
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def made_up(chance: random.Random, count: int) -> list[Job]:
    """Jobs of several workspaces, most of which are over, in the order of their submission."""
    template = given.job()
    jobs = []
    for position in range(1, count + 1):
        spec = type(template.spec)()
        spec.CopyFrom(template.spec)
        spec.dataset.dataset_id, spec.workflow_id = chance.choice(DATASETS), chance.choice(WORKFLOWS)
        spec.architecture.architecture_id = chance.choice(ARCHITECTURES)
        state = chance.choice(sorted(OVER)) if chance.random() < 0.95 else chance.choice(JobState.values()[1:])
        jobs.append(
            replace(
                template,
                job_id="jb_" + "".join(chance.choices(ALPHABET, k=16)),
                workspace_id=chance.choice(WORKSPACES),
                position=position,
                name=f"{chance.choice(WORDS)} {chance.choice(WORDS).upper()} {position}",
                state=state,
                spec=spec,
                runner_id=chance.choice(["", *RUNNERS]),
                submitted_by=chance.choice(PEOPLE),
            )
        )
    return jobs


async def prepare(database: DatabaseUrls, jobs: Sequence[Job], *, migrations: Path = MIGRATIONS) -> None:
    """The scheduler's tables, up to those migrations, with the jobs."""
    connection = await asyncpg.connect(database.scheduler)
    try:
        await migrate(connection, "scheduler", migrations)
        known = await connection.fetch(
            "select column_name from information_schema.columns "
            "where table_schema = 'scheduler' and table_name = 'jobs'"
        )
        rows = [_row(job) for job in jobs]
        names = [one["column_name"] for one in known]
        records = [tuple(row[name] for name in names) for row in rows]
        await connection.copy_records_to_table("jobs", schema_name="scheduler", columns=names, records=records)
        await connection.execute("analyze scheduler.jobs")
    finally:
        await connection.close()


def migrations_before(version: int, folder: Path) -> Path:
    """A copy of the migrations that came before one."""
    for file in MIGRATIONS.glob("*.sql"):
        if int(file.name[:4]) < version:
            shutil.copy(file, folder)
    return folder


def _row(job: Job) -> dict[str, object]:
    return {
        "job_id": job.job_id,
        "workspace_id": job.workspace_id,
        "state_code": job.state,
        "runner_id": job.runner_id or job.requested_runner_id,
        "submitted_position": job.position,
        "version": job.version,
        "state": dump(job),
        "waits_for_retry": job.waits_for_retry,
        **columns(job),
    }
