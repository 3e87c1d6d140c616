"""The box's calls to the platform's artifact service: one file up, one file down, and what is to be exported."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, TypeAlias

import grpc.aio

from protos.metrics.v1 import artifact_pb2 as pb
from protos.metrics.v1 import artifact_pb2_grpc
from runner_agent.config import Server
from runner_agent.link import credentials_of, open_channel
from runner_agent.threads import in_daemon_thread

# Each is answered before the next is sent: an upload takes no more of the link than it needs, and an error comes whole.
CHUNK_BYTES = 1 << 20
ANSWER_TIMEOUT_S = 60.0
# The platform checks the whole file and puts it into its store.
STORED_TIMEOUT_S = 1800.0
# The platform shows every 15 s that the stream of exports is alive.
SILENCE_S = 45.0

# What an outage of the platform or of the link raises; the same call may succeed later.
AWAY = (grpc.aio.AioRpcError, TimeoutError, ConnectionError)
# Unless its code is one of these: the same call has the same answer again.
_FINAL = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)

UploadCall: TypeAlias = "grpc.aio.StreamStreamCall[pb.UploadArtifactRequest, pb.UploadArtifactResponse]"


class Refused(Exception):
    """The file will never be on the platform; one sentence."""


class Vanished(Exception):
    """The file was removed from the box while it was sent."""


def is_final(error: BaseException) -> bool:
    """Whether asking again does not help. Pure."""
    return isinstance(error, grpc.aio.AioRpcError) and error.code() in _FINAL


def reason_of(error: BaseException) -> str:
    """One sentence for the log."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.details() or error.code().name
    return str(error) or "no answer in time"


class ArtifactCalls:
    """`target` tells where the platform takes artifacts, or None where that is not known yet."""

    def __init__(self, target: Callable[[], Server | None], key: str) -> None:
        self._target, self._key = target, key

    @property
    def ready(self) -> bool:
        return self._target() is not None

    def _channel(self) -> grpc.aio.Channel:
        target = self._target()
        if target is None:
            raise ConnectionError("the platform has not said where artifacts go")
        return open_channel(target)

    async def upload(self, header: pb.UploadHeader, path: Path) -> pb.Artifact:
        """Send a file, from where an earlier try has come to; returns once it is stored.

        Raises Refused, Vanished, one of `AWAY`, and OSError where it cannot be read.
        """
        with path.open("rb") as file:
            channel = self._channel()
            try:
                stub = artifact_pb2_grpc.ArtifactServiceStub(channel)
                call: UploadCall = stub.UploadArtifact(metadata=credentials_of(self._key))
                answer = await _exchange(call, pb.UploadArtifactRequest(header=header))
                while not answer.HasField("artifact"):
                    if answer.offset >= header.bytes:
                        # An earlier try has sent all of it.
                        answer = await _exchange(call, None, STORED_TIMEOUT_S)
                        continue
                    chunk = await in_daemon_thread(lambda at=answer.offset: _chunk(file, at))  # type: ignore[misc]
                    if not path.exists():
                        raise Vanished
                    if not chunk:
                        raise Refused(f"the file on the box ends after {answer.offset} bytes; it is damaged")
                    last = answer.offset + len(chunk) >= header.bytes
                    timeout_s = STORED_TIMEOUT_S if last else ANSWER_TIMEOUT_S
                    answer = await _exchange(call, pb.UploadArtifactRequest(chunk=chunk), timeout_s)
                return answer.artifact
            finally:
                await asyncio.shield(channel.close())

    async def fail(self, header: pb.UploadHeader, sentence: str) -> None:
        """Say that an export cannot be made. Raises Refused and one of `AWAY`."""
        channel = self._channel()
        try:
            stub = artifact_pb2_grpc.ArtifactServiceStub(channel)
            call: UploadCall = stub.UploadArtifact(metadata=credentials_of(self._key))
            await call.write(pb.UploadArtifactRequest(header=header))
            await _exchange(call, pb.UploadArtifactRequest(failed=sentence))
        finally:
            await asyncio.shield(channel.close())

    async def download(self, artifact_id: str, part: Path) -> None:
        """Append what is missing of a file. Raises one of `AWAY`, and OSError where the disk does not take it."""
        channel = self._channel()
        try:
            stub = artifact_pb2_grpc.ArtifactServiceStub(channel)
            with part.open("ab") as file:
                request = pb.DownloadArtifactRequest(artifact_id=artifact_id, offset=file.tell())
                call = stub.DownloadArtifact(request, metadata=credentials_of(self._key))
                responses = aiter(call)
                while True:
                    async with asyncio.timeout(ANSWER_TIMEOUT_S):
                        response = await anext(responses, None)
                    if response is None:
                        return
                    await in_daemon_thread(lambda chunk=response.chunk: file.write(chunk))  # type: ignore[misc]
        finally:
            await asyncio.shield(channel.close())

    async def exports(self) -> AsyncIterator[pb.ExportOnBox]:
        """What this box is to export, as long as the stream lives. Raises one of `AWAY`."""
        channel = self._channel()
        try:
            stub = artifact_pb2_grpc.ArtifactServiceStub(channel)
            responses = aiter(stub.WatchExports(pb.WatchExportsRequest(), metadata=credentials_of(self._key)))
            while True:
                async with asyncio.timeout(SILENCE_S):
                    response = await anext(responses, None)
                if response is None:
                    return
                for order in response.exports:
                    yield order
        finally:
            await asyncio.shield(channel.close())


async def _exchange(
    call: UploadCall, request: pb.UploadArtifactRequest | None, timeout_s: float = ANSWER_TIMEOUT_S
) -> pb.UploadArtifactResponse:
    """One message up, unless there is none, and its answer down. Raises Refused and one of `AWAY`."""
    async with asyncio.timeout(timeout_s):
        if request is not None:
            await call.write(request)
        answer = await call.read()
    if not isinstance(answer, pb.UploadArtifactResponse):
        raise ConnectionError("the platform ended the upload")
    if answer.refused:
        raise Refused(answer.refused)
    return answer


def _chunk(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    return file.read(CHUNK_BYTES)


def digest_of(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256, hexadecimal, of a file; blocks. Raises OSError."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
