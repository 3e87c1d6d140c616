"""Exports: asked for once, made by one box, told to everybody."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import grpc
import pytest

from protos.events.v1.workspace_pb2 import ROLE_MEMBER, TokenCreated
from protos.metrics.v1 import artifact_pb2 as pb
from services.clock import PlatformClock
from services.ids import sha256
from tests.support.artifacts import (
    File,
    artifact_events,
    download,
    exports_of,
    listed,
    stored,
    tell_saved,
    upload,
)
from tests.support.metrics_service import (
    ATTEMPT,
    JOB,
    KEY,
    OTHER_KEY,
    TOKEN,
    WORKSPACE,
    Log,
    Metrics,
    log_of,
    metadata,
    serving,
)
from tests.support.platform import DatabaseUrls

MEMBER = "tt_of_member"
OLDER, BEST, NEWEST = (File(f"step-00000{step}00.safetensors") for step in (1, 2, 3))
ONNX = File("step-00000200.onnx", 500_000)


@pytest.fixture
async def log(database: DatabaseUrls) -> AsyncIterator[Log]:
    async with log_of(database) as log:
        await log.people()
        created = TokenCreated(token_id="member", role=ROLE_MEMBER, token_sha256=sha256(MEMBER))
        await log.append(WORKSPACE, "workspace", WORKSPACE, created)
        await log.job(JOB, ATTEMPT)
        await tell_saved(log, OLDER)
        await log.append(WORKSPACE, "job", JOB, BEST.saved(best=True), NEWEST.saved())
        yield log


@pytest.fixture
async def metrics(database: DatabaseUrls, log: Log, tmp_path: Path) -> AsyncIterator[Metrics]:
    folders = {"artifact_store": str(tmp_path / "store"), "artifact_uploads": str(tmp_path / "uploads")}
    async with serving(database, **folders) as metrics:
        yield metrics


async def ask(
    metrics: Metrics, request_id: str = "", checkpoint: str = "", kind: int = 2, job_id: str = JOB
) -> pb.Artifact:
    request = pb.ExportModelRequest(
        request_id=request_id, job_id=job_id, checkpoint=checkpoint, kind=pb.ArtifactKind.ValueType(kind)
    )
    response = await metrics.artifacts.ExportModel(request, metadata=metadata(MEMBER), timeout=20)
    return response.artifact


def header_of(order: pb.ExportOnBox, file: File = ONNX) -> pb.UploadHeader:
    header = file.header(artifact_id=order.artifact_id, kind=order.kind)
    header.attempt_id = order.attempt_id
    return header


async def test_an_export_is_told_to_the_box_of_the_checkpoint_and_stored_once(
    metrics: Metrics, database: DatabaseUrls
) -> None:
    asked = await ask(metrics, "r1")
    assert (asked.state, asked.checkpoint, asked.name) == (pb.ARTIFACT_STATE_PENDING, BEST.name, ONNX.name)
    assert asked.message == "waits for a box that has the checkpoint"
    order = await anext(exports_of(metrics))
    assert order == pb.ExportOnBox(
        artifact_id=asked.artifact_id,
        job_id=JOB,
        attempt_id=ATTEMPT,
        checkpoint=BEST.name,
        sha256=BEST.sha256,
        kind=pb.ARTIFACT_KIND_ONNX,
    )
    answers = await upload(metrics, ONNX, header_of(order))
    assert answers[-1].artifact.state == pb.ARTIFACT_STATE_READY
    assert await download(metrics, asked.artifact_id) == ONNX.content
    assert await artifact_events(database) == [("ArtifactStored", asked.artifact_id)]
    # The same request, and the same wish in another one, have the same answer.
    assert {(await ask(metrics, one)).artifact_id for one in ("r1", "r2", "")} == {asked.artifact_id}
    at_once = await asyncio.gather(*(ask(metrics, "r4", NEWEST.name) for _ in range(12)))
    assert len({one.artifact_id for one in at_once}) == 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(metrics, "r1", OLDER.name)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    other = await ask(metrics, "r3", OLDER.name, pb.ARTIFACT_KIND_SAFETENSORS)
    assert other.name == "step-00000100-weights.safetensors"


async def test_a_box_makes_only_what_it_was_told_to_make(metrics: Metrics) -> None:
    asked = await ask(metrics)
    unclaimed = pb.ExportOnBox(artifact_id=asked.artifact_id, attempt_id=ATTEMPT, kind=asked.kind)
    assert "is not this runner's to make" in (await upload(metrics, ONNX, header_of(unclaimed)))[0].refused
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await upload(metrics, ONNX, header_of(unclaimed), key=OTHER_KEY)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    checkpoint = await stored(metrics, NEWEST)
    as_export = pb.ExportOnBox(artifact_id=checkpoint.artifact_id, attempt_id=ATTEMPT, kind=asked.kind)
    assert "is not this runner's to make" in (await upload(metrics, ONNX, header_of(as_export)))[0].refused


async def test_an_export_that_fails_says_why_and_may_be_asked_for_again(
    metrics: Metrics, database: DatabaseUrls
) -> None:
    asked = await ask(metrics, "r1")
    assert (await ask(metrics, "the same wish")).artifact_id == asked.artifact_id
    order = await anext(exports_of(metrics))
    call = metrics.artifacts.UploadArtifact(metadata=metadata(KEY), timeout=20)
    header = pb.UploadHeader(artifact_id=order.artifact_id, attempt_id=order.attempt_id, job_id=JOB, kind=order.kind)
    await call.write(pb.UploadArtifactRequest(header=header))
    await call.write(pb.UploadArtifactRequest(failed="the model is\n from another version"))
    answer = await call.read()
    assert isinstance(answer, pb.UploadArtifactResponse)
    failed = answer.artifact
    assert (failed.state, failed.message) == (pb.ARTIFACT_STATE_FAILED, "the model is from another version")
    assert await artifact_events(database) == []
    assert "is over: the model is from another version" in (await upload(metrics, ONNX, header_of(order)))[0].refused
    again = await ask(metrics, "r2")
    assert again.artifact_id != asked.artifact_id
    for repeated in ("r1", "the same wish"):
        first = await ask(metrics, repeated)
        assert (first.artifact_id, first.state) == (asked.artifact_id, pb.ARTIFACT_STATE_FAILED)
    assert [one.state for one in await listed(metrics)].count(pb.ARTIFACT_STATE_PENDING) == 1


async def test_exports_that_no_connected_box_can_make_keep_no_other_waiting(
    metrics: Metrics, database: DatabaseUrls, log: Log
) -> None:
    await log.job("jb_far", "at_far", runner_id="rn_far")
    connection = await asyncpg.connect(database.admin)
    try:
        await connection.execute(
            "insert into metrics.saved_checkpoints select 'at_far', 'c' || n, 'jb_far', $1, n, 1, '', false, false, 1 "
            "from generate_series(1, 600) n",
            WORKSPACE,
        )
        await connection.execute(
            "insert into metrics.artifacts (artifact_id, workspace_id, job_id, attempt_id, kind, name, checkpoint, "
            "created_at_ms) select 'af_' || n, $1, 'jb_far', 'at_far', 2, 'c', 'c' || n, $2 "
            "from generate_series(1, 600) n",
            WORKSPACE,
            # Not so old that they are given up.
            PlatformClock().now_ms() - 60_000,
        )
    finally:
        await connection.close()
    asked = await ask(metrics)
    assert (await anext(exports_of(metrics))).artifact_id == asked.artifact_id


async def test_what_cannot_be_exported_is_refused_at_once(metrics: Metrics) -> None:
    for call, code, words in (
        (ask(metrics, kind=1), grpc.StatusCode.INVALID_ARGUMENT, "an export is ONNX or SAFETENSORS"),
        (ask(metrics, checkpoint="none.bin"), grpc.StatusCode.NOT_FOUND, "there is no checkpoint 'none.bin'"),
        (ask(metrics, job_id="jb_none"), grpc.StatusCode.NOT_FOUND, "there is no job 'jb_none'"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is code
        assert words in (refused.value.details() or "")
    request = pb.ExportModelRequest(job_id=JOB, kind=pb.ARTIFACT_KIND_ONNX)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await metrics.artifacts.ExportModel(request, metadata=metadata(TOKEN), timeout=20)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
