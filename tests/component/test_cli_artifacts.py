"""Files of a training through `tether`, from real services and a box that the test plays."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from protos.metrics.v1 import artifact_pb2 as pb
from protos.scheduler.v1 import session_pb2
from protos.training.v1.training_pb2 import Checkpoint
from tests.support.artifacts import File, exports_of, upload
from tests.support.box import Box
from tests.support.cli import Cli, ended, served
from tests.support.control import Control
from tests.support.metrics_service import Metrics
from tests.support.platform import DatabaseUrls

BEST, NEWEST = File("step-00000100.safetensors", 3_000_000), File("step-00000200.safetensors", 2_000_000)
ONNX = File("step-00000100.onnx", 700_000)


@contextlib.asynccontextmanager
async def trained(control: Control, tether: Cli) -> AsyncIterator[tuple[Metrics, session_pb2.Assignment, str]]:
    """A running job with two checkpoints, the metrics service, and the box's key."""
    await control.dataset()
    created = await control.create_runner("box")
    box = Box(control.channel, created.secret_key)
    welcome = await box.connect()
    await control.submit(name="digits")
    assignment = await box.assignment()
    at = session_pb2.BoxMoment(anchor_at_ms=welcome.platform_at_ms + 1)
    await box.report(assignment, 1, started=session_pb2.Started(at=at, weights="random"))
    for sequence, (file, best) in enumerate(((BEST, True), (NEWEST, False)), 2):
        saved = Checkpoint(name=file.name, step=100, bytes=file.size, sha256=file.sha256, best=best)
        await box.report(assignment, sequence, checkpointed=session_pb2.Checkpointed(checkpoint=saved))
    async with grpc.aio.insecure_channel(tether.endpoints["metrics"]) as channel:
        yield Metrics(0, channel), assignment, created.secret_key


def of(assignment: session_pb2.Assignment, file: File) -> pb.UploadHeader:
    header = file.header()
    header.attempt_id, header.job_id = assignment.attempt_id, assignment.job_id
    return header


async def test_checkpoints_are_listed_and_downloaded_from_where_a_broken_download_ended(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    async with served(database, tmp_path, figures=True) as (control, tether), trained(control, tether) as parts:
        metrics, assignment, key = parts
        assert "The platform has no file of it yet" in (await tether("jobs", "artifacts", "last")).out
        not_yet = await tether("jobs", "download", "last")
        assert not_yet.error == f"the platform has no file '{BEST.name}' of digits; it has no file of this training"
        for file in (NEWEST, BEST):
            assert (await upload(metrics, file, of(assignment, file), key=key))[-1].HasField("artifact")

        shown = (await tether("jobs", "artifacts", "digits")).out
        assert BEST.name in shown
        assert "2.9 MiB" in shown
        assert NEWEST.name in shown

        folder = tmp_path / "models"
        folder.mkdir()
        part = folder / f"{BEST.name}.{BEST.sha256[:12]}.part"
        part.write_bytes(BEST.content[:1_234_567])
        done = await tether("jobs", "download", "last", "--output", str(folder), "--json")
        assert (done.json["sha256"], done.json["path"]) == (BEST.sha256, str(folder / BEST.name))
        assert [path.name for path in folder.iterdir()] == [BEST.name]
        assert (folder / BEST.name).read_bytes() == BEST.content

        (folder / BEST.name).write_bytes(b"mine")
        other = await tether("jobs", "download", "last", BEST.name, "-o", str(folder))
        assert other.error.endswith("is another file; remove it, or name another with --output")
        damaged = folder / f"other.{BEST.sha256[:12]}.part"
        damaged.write_bytes(b"x" * 1000)
        refused = await tether("jobs", "download", "last", "-o", str(folder / "other"))
        assert "came damaged and was removed; download it again" in refused.error
        assert not damaged.exists()


async def test_an_export_is_waited_for_and_downloaded_and_a_failed_one_says_why(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    async with served(database, tmp_path, figures=True) as (control, tether), trained(control, tether) as parts:
        metrics, assignment, key = parts
        target = tmp_path / "model.onnx"
        waiting = await tether.start("jobs", "export", "last", "--format", "onnx", "--output", str(target))
        async with asyncio.timeout(20):
            order = await anext(exports_of(metrics, key))
        assert (order.checkpoint, order.attempt_id) == (BEST.name, assignment.attempt_id)
        header = of(assignment, ONNX)
        header.artifact_id, header.kind = order.artifact_id, order.kind
        await upload(metrics, ONNX, header, key=key)
        done = await ended(waiting)
        assert done.code == 0, done.err
        assert "step-00000100.safetensors: waits for a box that has the checkpoint…" in done.err
        assert target.read_bytes() == ONNX.content

        failing = await tether.start("jobs", "export", "last", "--format", "safetensors")
        orders = exports_of(metrics, key)
        async with asyncio.timeout(20):
            order = await anext(orders)
        call = metrics.artifacts.UploadArtifact(metadata=(("authorization", f"Bearer {key}"),), timeout=20)
        about = pb.UploadHeader(artifact_id=order.artifact_id, attempt_id=order.attempt_id, kind=order.kind)
        await call.write(pb.UploadArtifactRequest(header=about))
        await call.write(pb.UploadArtifactRequest(failed="the file is gone"))
        await call.read()
        refused = await ended(failing)
        assert refused.code == 1
        assert refused.err.splitlines()[-1] == f"error: {BEST.name} cannot be exported: the file is gone"
