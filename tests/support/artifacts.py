"""Uploads and downloads of artifacts, as a box and a person make them."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import grpc

from protos.events.v1.job_pb2 import CheckpointSaved
from protos.metrics.v1 import artifact_pb2 as pb
from protos.training.v1.training_pb2 import Checkpoint
from tests.support.metrics_service import ATTEMPT, JOB, KEY, TOKEN, WORKSPACE, Log, Metrics, metadata
from tests.support.platform import DatabaseUrls

CHUNK = 64 << 10


@dataclass(frozen=True)
class File:
    """A checkpoint with a content that differs everywhere."""

    name: str = "step-00000100.safetensors"
    size: int = 1_000_000

    @property
    def content(self) -> bytes:
        return hashlib.shake_256(self.name.encode()).digest(self.size)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def header(self, **changes: object) -> pb.UploadHeader:
        header = pb.UploadHeader(
            attempt_id=ATTEMPT,
            job_id=JOB,
            kind=pb.ARTIFACT_KIND_CHECKPOINT,
            name=self.name,
            bytes=self.size,
            sha256=self.sha256,
            step=100,
        )
        header.MergeFrom(pb.UploadHeader(**changes))  # type: ignore[arg-type]
        return header

    def saved(self, attempt_id: str = ATTEMPT, best: bool = False, removed: tuple[str, ...] = ()) -> CheckpointSaved:
        checkpoint = Checkpoint(
            name=self.name, step=100, bytes=self.size, sha256=self.sha256, best=best, removed=removed
        )
        return CheckpointSaved(attempt_id=attempt_id, checkpoint=checkpoint)


async def tell_saved(log: Log, *files: File, workspace_id: str = WORKSPACE, job_id: str = JOB) -> None:
    for file in files:
        await log.append(workspace_id, "job", job_id, file.saved())


async def upload(
    metrics: Metrics,
    file: File,
    header: pb.UploadHeader | None = None,
    content: bytes | None = None,
    key: str = KEY,
    stop_at: int | None = None,
    chunk: int = CHUNK,
) -> list[pb.UploadArtifactResponse]:
    """All answers. `stop_at`: the stream ends in good order before that byte."""
    sent = file.content if content is None else content
    call = metrics.artifacts.UploadArtifact(metadata=metadata(key), timeout=20)
    await call.write(pb.UploadArtifactRequest(header=header or file.header()))
    first: pb.UploadArtifactResponse = await call.read()  # type: ignore[assignment]
    answers = [first]
    if not first.refused and not first.HasField("artifact"):
        end = len(sent) if stop_at is None else stop_at
        for start in range(first.offset, end, chunk):
            await call.write(pb.UploadArtifactRequest(chunk=sent[start : min(start + chunk, end)]))
            answers.append(await call.read())  # type: ignore[arg-type]
        if stop_at is None and not answers[-1].HasField("artifact"):
            # An earlier stream has sent all of it.
            answers.append(await call.read())  # type: ignore[arg-type]
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    return answers


async def stored(metrics: Metrics, file: File, key: str = KEY) -> pb.Artifact:
    answers = await upload(metrics, file, key=key)
    assert answers[-1].artifact.state == pb.ARTIFACT_STATE_READY, answers
    return answers[-1].artifact


async def download(metrics: Metrics, artifact_id: str, offset: int = 0, token: str = TOKEN) -> bytes:
    request = pb.DownloadArtifactRequest(artifact_id=artifact_id, offset=offset)
    call = metrics.artifacts.DownloadArtifact(request, metadata=metadata(token), timeout=20)
    return b"".join([response.chunk async for response in call])


async def listed(metrics: Metrics, job_id: str = JOB, token: str = TOKEN) -> list[pb.Artifact]:
    request = pb.ListArtifactsRequest(job_id=job_id)
    response = await metrics.artifacts.ListArtifacts(request, metadata=metadata(token), timeout=20)
    return list(response.artifacts)


async def artifact_events(database: DatabaseUrls) -> list[tuple[str, str]]:
    """Type and stream id of all events of artifacts, in order."""
    connection = await asyncpg.connect(database.admin, timeout=10)
    try:
        rows = await connection.fetch(
            "select type, stream_id from eventlog.events where stream_kind = 'artifact' order by position"
        )
    finally:
        await connection.close()
    return [(row["type"], row["stream_id"]) for row in rows]


async def exports_of(metrics: Metrics, key: str = KEY) -> AsyncIterator[pb.ExportOnBox]:
    """What a box is told to export, as it comes."""
    call = metrics.artifacts.WatchExports(pb.WatchExportsRequest(), metadata=metadata(key), timeout=20)
    async for response in call:
        for one in response.exports:
            yield one
