"""Minutes, curves and logs through `tether`, from real services."""

import asyncio
from pathlib import Path

import grpc

from protos.metrics.v1 import ingest_pb2
from protos.metrics.v1.ingest_pb2_grpc import IngestServiceStub
from protos.scheduler.v1 import session_pb2
from tests.support.box import Box
from tests.support.cli import Cli, ended, line_with, served
from tests.support.control import Control
from tests.support.eventually import eventually
from tests.support.metrics_service import batch, line, point
from tests.support.platform import DatabaseUrls
from tests.support.servers import bearer


async def running_job(control: Control) -> tuple[Box, session_pb2.Assignment, session_pb2.BoxMoment, str]:
    """A job that trains on a box, since when, and the box's key."""
    await control.dataset()
    created = await control.create_runner("box")
    box = Box(control.channel, created.secret_key)
    welcome = await box.connect()
    await control.submit(name="digits")
    assignment = await box.assignment()
    at = session_pb2.BoxMoment(anchor_at_ms=welcome.platform_at_ms + 1)
    await box.report(assignment, 1, started=session_pb2.Started(at=at, weights="random"))
    return box, assignment, at, created.secret_key


async def shipped(tether: Cli, key: str, *requests: ingest_pb2.ReportRequest) -> None:
    """What a box ships to the metrics service, until it is durable."""
    async with grpc.aio.insecure_channel(tether.endpoints["metrics"]) as channel:
        call = IngestServiceStub(channel).Report(iter(requests), metadata=bearer(key), timeout=20)
        refused = [response.refused async for response in call if response.refused]
    assert refused == []


async def finish(box: Box, assignment: session_pb2.Assignment, started_at: session_pb2.BoxMoment) -> None:
    ended_at = session_pb2.BoxMoment(anchor_at_ms=started_at.anchor_at_ms, elapsed_ms=100)
    end = session_pb2.Ended(
        outcome=session_pb2.Outcome.OUTCOME_FINISHED, started_at=started_at, ended_at=ended_at, steps=40, epochs=2
    )
    await box.report(assignment, 9, ended=end)


async def test_curves_and_logs_are_shown_while_a_training_runs_and_the_log_ends_with_it(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    async with served(database, tmp_path, figures=True) as (control, tether):
        box, assignment, started_at, key = await running_job(control)
        at = {"attempt_id": assignment.attempt_id, "job_id": assignment.job_id}
        nothing = await tether("metrics", "show", "last")
        assert "has reported no metrics yet" in nothing.out
        points = [point(step, **{"train/loss": 2.0 / step}) for step in range(1, 40)]
        await shipped(tether, key, batch(1, points, **at), batch(1, [line("hello"), line("epoch 1")], "log", **at))

        (series,) = (await tether("metrics", "list", "digits", "--json")).json["series"]
        assert (series["name"], series["points"], series["last_step"]) == ("train/loss", "39", "39")
        drawn = await tether("metrics", "show", "last", "train/loss")
        assert "train/loss  0.0513 at step 39" in drawn.out
        assert "2.0000 ┤" in drawn.out
        missing = await tether("metrics", "show", "last", "train/los")
        assert missing.error == "this training has no series train/los; it has train/loss"

        assert (await tether("jobs", "logs", "last", "--tail", "1")).out == "epoch 1\n"
        following = await tether.start("jobs", "logs", "last", "-f")
        await line_with(following, "epoch 1")
        await shipped(tether, key, batch(3, [line("epoch 2")], "log", **at))
        await line_with(following, "epoch 2")
        await finish(box, assignment, started_at)
        assert (await ended(following)).code == 0, "a log ends with its training"


async def test_minutes_are_told_charged_limited_and_recomputed(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path, figures=True) as (control, tether):
        before = await tether("usage")
        assert "0.00 compute minutes, without a limit" in before.out
        box, assignment, started_at, _ = await running_job(control)

        async def counts() -> bool:
            return bool((await tether("usage", "--json")).json["running_jobs"])

        await eventually(counts, what="the running job in the usage")
        await finish(box, assignment, started_at)

        async def charged() -> list[dict[str, object]]:
            charges = (await tether("usage", "charges", "--json")).json["charges"]
            return [] if charges[0]["running"] else charges

        (charge,) = await eventually(charged, what="the charge")
        assert charge["job_name"] == "digits"
        assert "finished" in (await tether("usage", "charges")).out
        equal, limited = await asyncio.gather(tether("usage", "verify"), tether("usage", "set", "12.5"))
        assert (equal.code, equal.out[:7]) == (0, "✔ equal")
        assert limited.out == "The workspace may use 12.5 compute minutes a month.\n"

        async def known() -> bool:
            return "of 12.5 compute minutes" in (await tether("usage")).out

        await eventually(known, what="the quota in the usage")
        assert "is not a number of minutes" in (await tether("usage", "set", "plenty")).error
        assert (
            "--month is '2026-13', but a period is a calendar month"
            in (await tether("usage", "--month", "2026-13")).error
        )


async def test_the_live_view_needs_neither_curves_nor_figures(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (control, tether):
        box, assignment, started_at, _ = await running_job(control)
        watch = await tether.start("jobs", "watch", "last")
        await line_with(watch, "RUNNING  on box")
        await finish(box, assignment, started_at)
        result = await ended(watch)
        assert (result.code, result.err) == (0, "")
        assert "for 40 steps, 2 epochs" in result.out
