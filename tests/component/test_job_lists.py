"""Lists of jobs hold what a plain look at every job would choose, page by page, and are read out of an index."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.scheduler.v1 import job_pb2 as pb
from services.postgres import Pool
from services.scheduler import job_lists
from services.scheduler.domain.job import Job
from services.scheduler.job_lists import Wanted, complete, page_of
from tests.support import listed_jobs as known
from tests.support.control import Control, control_plane
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls

FILTERS: dict[str, list[Any]] = {
    "states": [(5,), (6, 7), (1, 2, 3, 4)],
    "search": ["STRASSE", "été", "night", "100%_", "baseline digits", "nothing has this"],
    "runner_id": known.RUNNERS[:3],
    "dataset_id": known.DATASETS[:3],
    "architecture_id": known.ARCHITECTURES[:3],
    "workflow_id": known.WORKFLOWS[1:4],
    "submitted_by": known.PEOPLE[:3],
}


def chosen(jobs: Sequence[Job], workspace_id: str, wanted: Wanted) -> list[str]:
    def fits(job: Job) -> bool:
        told = job_lists.columns(job)
        return (
            workspace_id in ("", job.workspace_id)
            and (not wanted.states or job.state in wanted.states)
            and (job_lists.folded(wanted.search) in told["name_folded"] or wanted.search == job.job_id)
            and wanted.runner_id in ("", job.runner_id)
            and all(
                getattr(wanted, name) in ("", told[name])
                for name in ("dataset_id", "architecture_id", "workflow_id", "submitted_by")
            )
        )

    return [job.job_id for job in reversed(jobs) if fits(job)]


async def all_pages(pool: Pool, workspace_id: str, wanted: Wanted, size: int) -> list[str]:
    found: list[str] = []
    before = 0
    while True:
        page = await page_of(pool, workspace_id, wanted, before, size)
        assert len(page.jobs) <= size
        found += [job.job_id for job in page.jobs]
        if not page.next_before:
            return found
        assert before == 0 or page.next_before < before, "it goes on"
        before = page.next_before


@pytest.mark.parametrize("most_searched", [7, job_lists.MOST_SEARCHED])
async def test_every_filter_gives_what_a_plain_look_gives(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, most_searched: int
) -> None:
    monkeypatch.setattr(job_lists, "MOST_SEARCHED", most_searched)
    chance = random.Random(6)
    jobs = known.made_up(chance, 200)
    await known.prepare(database, jobs)
    any_job = 0
    async with pool_on(database.scheduler) as pool:
        for _ in range(60):
            names = chance.sample(sorted(FILTERS), chance.choice([0, 1, 1, 2, 3]))
            wanted = Wanted(**{name: chance.choice(FILTERS[name]) for name in names})
            workspace_id = chance.choice([*known.WORKSPACES, ""])
            found = await all_pages(pool, workspace_id, wanted, chance.choice([1, 3, 50, 1000]))
            assert found == chosen(jobs, workspace_id, wanted), (workspace_id, wanted)
            any_job += bool(names and found)
        one = jobs[17]
        assert await all_pages(pool, one.workspace_id, Wanted(search=one.job_id), 10) == [one.job_id]
        assert await all_pages(pool, "ws_else", Wanted(search=one.job_id), 10) == []
    assert any_job > 15


class Explained:
    """A pool that keeps the plan of each statement."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.plans: list[str] = []

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        await self._explain(statement, *arguments)
        return await self._pool.fetch(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        await self._explain(statement, *arguments)
        return await self._pool.fetchval(statement, *arguments)

    async def _explain(self, statement: str, *arguments: Any) -> None:
        rows = await self._pool.fetch(f"explain {statement}", *arguments)
        self.plans.append("\n".join(row[0] for row in rows))


async def test_ten_thousand_jobs_are_listed_out_of_an_index_with_each_filter(database: DatabaseUrls) -> None:
    jobs = known.made_up(random.Random(7), 10_000)
    await known.prepare(database, jobs)
    uses = {
        "states": "jobs_by_state",
        "search": "jobs_by_age",
        "runner_id": "jobs_by_runner",
        "dataset_id": "jobs_by_dataset",
        "architecture_id": "jobs_by_",
        "workflow_id": "jobs_by_workflow",
        "submitted_by": "jobs_by_person",
    }
    async with pool_on(database.scheduler) as pool:
        explained: Any = Explained(pool)
        await page_of(explained, "ws_1", Wanted(), 5_000, 100)
        assert "jobs_by_age" in explained.plans[-1]
        for name, index in uses.items():
            explained.plans.clear()
            await page_of(explained, "ws_1", Wanted(**{name: FILTERS[name][0]}), 5_000, 100)
            assert index in explained.plans[0], explained.plans[0]
            assert all("Seq Scan" not in plan for plan in explained.plans), explained.plans


async def test_jobs_of_an_older_version_are_completed_once(database: DatabaseUrls, tmp_path: Path) -> None:
    jobs = known.made_up(random.Random(8), 1_100)
    before = known.migrations_before(6, tmp_path)
    await known.prepare(database, jobs, migrations=before)
    await known.prepare(database, [])
    async with pool_on(database.scheduler) as pool:
        wanted = Wanted(dataset_id=known.DATASETS[0], runner_id=known.RUNNERS[0])
        assert await all_pages(pool, "", wanted, 100) == []
        assert [await complete(pool), await complete(pool)] == [1_100, 0]
        assert await all_pages(pool, "", wanted, 100) == chosen(jobs, "", wanted)
        rows = await pool.fetch("select * from scheduler.jobs")
        told = {job.job_id: job_lists.columns(job) for job in jobs}
        assert {row["job_id"]: {name: row[name] for name in told[row["job_id"]]} for row in rows} == told


async def test_a_job_that_an_older_version_has_moved_is_found_at_its_runner(database: DatabaseUrls) -> None:
    jobs = [replace(job, state=pb.JOB_STATE_RUNNING) for job in known.made_up(random.Random(9), 100)]
    await known.prepare(database, jobs)
    async with pool_on(database.scheduler) as pool:
        await pool.execute(
            "update scheduler.jobs set last_runner_id = case when length(name_folded) % 2 = 0 then '' "
            "else 'rn_before' end where submitted_position > 50"
        )
        assert await complete(pool) > 0
        assert await complete(pool) == 0
        told = {job.job_id: job.runner_id for job in jobs}
        rows = await pool.fetch("select job_id, last_runner_id from scheduler.jobs")
        assert {row["job_id"]: row["last_runner_id"] for row in rows} == told


async def names(control: Control, **wanted: Any) -> list[str]:
    request = pb.ListJobsRequest(**wanted)
    return [job.name for job in (await control.jobs.ListJobs(request, metadata=control.auth)).jobs]


async def test_a_list_is_asked_for_by_names_and_ids(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        dataset_id = await control.dataset()
        await control.dataset("scans")
        runner_id, box = await control.box()
        await box.connect()
        await control.submit(name="First Run")
        await box.assignment()
        waits = await control.submit(name="second run", queue=True)
        await control.submit(name="elsewhere", queue=True, dataset_id="scans")

        assert await names(control, search="RUN") == ["second run", "First Run"]
        assert await names(control, search=waits.job_id) == ["second run"]
        for dataset in (dataset_id, "digits"):
            assert await names(control, dataset_id=dataset) == ["second run", "First Run"]
        for runner in (runner_id, "box"):
            assert await names(control, runner_id=runner) == ["First Run"], "the others wait for it"
        assert await names(control, architecture_id="resnet-tiny", search="else") == ["elsewhere"]
        assert await names(control, submitted_by=waits.submitted_by, states=[pb.JOB_STATE_QUEUED]) == [
            "elsewhere",
            "second run",
        ]
        like_an_id = await control.dataset("jb_" + "b" * 16)
        assert await names(control, dataset_id="jb_" + "b" * 16) == [], "found by its name"
        assert like_an_id.startswith("ds_")
        for other in ("runner_id", "dataset_id", "workflow_id"):
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await names(control, **{other: "jb_" + "a" * 16})
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND, "the id of something else"
        gone = "wf_" + "a" * 16
        assert await names(control, workflow_id=gone) == [], "it may have been deleted"

        for wanted, code, word in (
            ({"runner_id": "nobox"}, grpc.StatusCode.NOT_FOUND, "runners list"),
            ({"dataset_id": "nodata"}, grpc.StatusCode.NOT_FOUND, "datasets list"),
            ({"workflow_id": "none"}, grpc.StatusCode.NOT_FOUND, "workflows list"),
            ({"submitted_by": "ann"}, grpc.StatusCode.INVALID_ARGUMENT, "token:<id>"),
            ({"search": "x" * 101}, grpc.StatusCode.INVALID_ARGUMENT, "100 characters"),
            ({"states": [99]}, grpc.StatusCode.INVALID_ARGUMENT, "states"),
            ({"page_token": "9" * 30}, grpc.StatusCode.INVALID_ARGUMENT, "next_page_token"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await names(control, **wanted)
            assert (refused.value.code(), word in (refused.value.details() or "")) == (code, True)
