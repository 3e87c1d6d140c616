"""`tether metrics export`, a search in a log, and what was refused, from real services."""

import csv
import json
import math
from pathlib import Path

import grpc
import pyarrow.parquet as parquet

from protos.metrics.v1 import ingest_pb2
from protos.metrics.v1.ingest_pb2_grpc import IngestServiceStub
from protos.scheduler.v1 import session_pb2
from tests.support.box import Box
from tests.support.cli import Cli, served
from tests.support.control import Control
from tests.support.metrics_service import batch, line, point
from tests.support.platform import DatabaseUrls
from tests.support.servers import bearer


async def _shipped(tether: Cli, control: Control, *requests: ingest_pb2.ReportRequest) -> session_pb2.Assignment:
    """A job on a box that has reported this; job and attempt are filled in."""
    await control.dataset()
    created = await control.create_runner("box")
    box = Box(control.channel, created.secret_key)
    welcome = await box.connect()
    await control.submit(name="digits")
    assignment = await box.assignment()
    at = session_pb2.BoxMoment(anchor_at_ms=welcome.platform_at_ms + 1)
    await box.report(assignment, 1, started=session_pb2.Started(at=at, weights="random"))
    for request in requests:
        request.job_id, request.attempt_id = assignment.job_id, assignment.attempt_id
    async with grpc.aio.insecure_channel(tether.endpoints["metrics"]) as channel:
        call = IngestServiceStub(channel).Report(iter(requests), metadata=bearer(created.secret_key), timeout=20)
        async for _ in call:
            pass
    return assignment


async def test_what_was_reported_is_exported_searched_and_what_was_refused_is_told(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    async with served(database, tmp_path, figures=True) as (control, tether):
        values = [1.0, math.nan, math.inf, -0.1]
        steps = [
            point(step, **{"train/loss": value, "validation/loss": 2 * value}) for step, value in enumerate(values)
        ]
        lines = [line("epoch 1"), line("\x1b[31mOut \x1b[1mof memory\x1b[0m"), line("epoch 2")]
        assignment = await _shipped(
            tether, control, batch(1, [*steps, point(9, **{"x" * 300: 1.0})]), batch(1, lines, "log")
        )

        out = tmp_path / "points.parquet"
        done = await tether("metrics", "export", "last", "--output", str(out))
        assert (done.code, done.err) == (0, "")
        assert f"8 points in {out}" in done.out
        table = parquet.read_table(out)
        assert table.column_names == ["job_id", "attempt_id", "series", "step", "value", "at"]
        assert str(table.schema.field("at").type) == "timestamp[ms, tz=UTC]"
        rows = [row for row in table.to_pylist() if row["series"] == "train/loss"]
        assert {(row["job_id"], row["attempt_id"]) for row in rows} == {(assignment.job_id, assignment.attempt_id)}
        assert repr([row["value"] for row in rows]) == repr(values)
        assert [row["step"] for row in rows] == [0, 1, 2, 3]
        assert rows[3]["at"].timestamp() == 1000.003
        before = out.read_bytes()
        assert "is there already" in (await tether("metrics", "export", "last", "-o", str(out))).error
        assert out.read_bytes() == before
        text = tmp_path / "points.csv"
        arguments = ("--series", "validation/loss", "--format", "csv", "--force", "--json", "--output", str(text))
        assert json.loads((await tether("metrics", "export", "last", *arguments)).out)["points"] == 4
        cells = list(csv.DictReader(text.read_text().splitlines()))
        assert [float(cell["value"]) for cell in cells[2:]] == [math.inf, -0.2]
        assert cells[0]["at"] == "1000000"
        assert sorted(path.name for path in tmp_path.iterdir() if "points" in path.name) == [
            "points.csv",
            "points.parquet",
        ]
        wrong = await tether("metrics", "export", "last", "--series", "loss", "-o", str(tmp_path / "x"))
        assert wrong.error == "this training has no series loss; it has train/loss, validation/loss"

        found = await tether("jobs", "logs", "last", "--search", "out OF memory", "--line-numbers")
        assert found.out == "      2  \x1b[31mOut \x1b[1mof memory\x1b[0m\n"
        found = await tether("jobs", "logs", "last", "--search", "EPOCH", "--from-line", "2", "--tail", "2", "--json")
        assert (found.json["text"], found.json["line"]) == ("epoch 2", "3")
        nothing = await tether("jobs", "logs", "last", "--search", "warning")
        assert (nothing.out, "No line of digits has 'warning'" in nothing.err) == ("", True)

        refused = "1 value refused, characters of a series name: 300 is above the limit of 200"
        assert refused in (await tether("metrics", "list", "last")).out
        assert refused in (await tether("jobs", "show", "last")).out
