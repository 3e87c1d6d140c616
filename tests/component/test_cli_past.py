"""Runners and trainings as they were, through `tether`."""

from pathlib import Path

from protos.scheduler.v1.session_pb2 import BoxMoment, Ended, Outcome, Started
from tests.support.cli import served
from tests.support.platform import DatabaseUrls


async def test_runners_and_jobs_are_shown_as_they_were(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (control, tether):
        await control.dataset()
        _, box = await control.box()
        welcome = await box.connect()
        job_id = (await control.submit(name="digits")).job_id
        held = await box.assignment()
        at = BoxMoment(anchor_at_ms=welcome.platform_at_ms + 1)
        await box.report(held, 1, started=Started(at=at, weights="random"))
        await box.report(held, 2, ended=Ended(outcome=Outcome.OUTCOME_FINISHED, started_at=at, ended_at=at))
        lines = (await tether("events", "--no-follow", "--json")).out.splitlines()
        started = next(int(line.split('"position": "')[1].split('"')[0]) for line in lines if '"JobStarted"' in line)

        listed = await tether("runners", "list", f"--at=#{started}")
        assert f"after event #{started}:" in listed.out
        assert "OCCUPIED" in listed.out
        assert "ONLINE" in (await tether("runners", "list")).out
        shown = await tether("runners", "show", "box", "--at", f"#{started}", "--json")
        assert shown.json["runner"]["job_id"] == job_id
        assert shown.json["as_of_position"] == str(started)
        assert "OCCUPIED" in (await tether("runners", "show", "box", "--at", f"#{started}")).out

        job = await tether("jobs", "show", "last", f"--at=#{started}")
        assert "RUNNING" in job.out
        assert "JobFinished" not in job.out
        assert "by the job's own record" in job.out
        assert "JobFinished" in (await tether("jobs", "show", "last")).out
        early = await tether("jobs", "show", "last", "--at=#1")
        assert early.error == (
            f"there is no job '{job_id}' in this workspace; at that moment (#1) there was none of this id"
        )


async def test_a_moment_without_an_answer_is_told_in_one_sentence(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (control, tether):
        await control.create_runner()
        nothing = await tether("runners", "list", "--at", "1 week ago")
        assert "before the first event" in nothing.out
        assert "There was no runner." in nothing.out
        assert (await tether("runners", "list", "--at", "noon")).error.startswith("'noon' is not a moment; write for")
        beyond = await tether("runners", "show", "box", "--at=#1000")
        assert beyond.error == "--at is '#1000', but the log goes from #1 to #3"
        future = await tether("runners", "list", "--at", "2100-01-01T00:00Z")
        assert future.error.startswith("--at is '2100-01-01 00:00:00 UTC', but it lies in the future; it is 20")
