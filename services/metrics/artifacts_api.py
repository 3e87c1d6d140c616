"""ArtifactService: files that trainings leave, for people and boxes."""

from collections.abc import AsyncIterator

import grpc

from protos.metrics.v1 import artifact_pb2 as pb
from protos.metrics.v1 import artifact_pb2_grpc as pb_grpc
from services.metrics.artifacts_exports import Exports
from services.metrics.artifacts_rows import CHECKPOINT, READY, key_of, list_artifacts, read_own, shown
from services.metrics.artifacts_store import Store
from services.metrics.artifacts_uploads import NeverTaken, Uploads
from services.metrics.attempts import Register
from services.rpc.credentials import OPERATOR
from services.rpc.errors import InvalidField, Refused
from services.rpc.kernel import Kernel
from services.rpc.shell import caller


class NotReady(Refused):
    """Only a file that the platform has whole can be downloaded."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name} is not there yet, or not any more: {message or 'the box sends it'}")


class ArtifactApi(pb_grpc.ArtifactServiceServicer):
    def __init__(self, kernel: Kernel, register: Register, store: Store, uploads: Uploads, exports: Exports) -> None:
        self._kernel, self._register, self._store = kernel, register, store
        self._uploads, self._exports = uploads, exports

    async def ListArtifacts(
        self,
        request: pb.ListArtifactsRequest,
        context: grpc.aio.ServicerContext[pb.ListArtifactsRequest, pb.ListArtifactsResponse],
    ) -> pb.ListArtifactsResponse:
        await self._register.check_job(request.job_id, caller())
        rows = await list_artifacts(self._kernel.pool, request.job_id)
        return pb.ListArtifactsResponse(artifacts=[shown(row, self._store) for row in rows])

    async def DownloadArtifact(
        self,
        request: pb.DownloadArtifactRequest,
        context: grpc.aio.ServicerContext[pb.DownloadArtifactRequest, pb.DownloadArtifactResponse],
    ) -> AsyncIterator[pb.DownloadArtifactResponse]:
        principal = caller()
        workspace_id = "" if principal.role == OPERATOR else principal.workspace_id
        row = await read_own(self._kernel.pool, request.artifact_id, workspace_id)
        if row["state"] != READY:
            raise NotReady(row["name"], row["message"])
        if not 0 <= request.offset <= row["bytes"]:
            raise InvalidField("offset", request.offset, f"the file has {row['bytes']} bytes")
        yield pb.DownloadArtifactResponse(artifact=shown(row, self._store))
        async for chunk in self._store.read(key_of(row), request.offset):
            self._kernel.shell.check_still_valid(principal)
            yield pb.DownloadArtifactResponse(chunk=chunk)

    async def ExportModel(
        self,
        request: pb.ExportModelRequest,
        context: grpc.aio.ServicerContext[pb.ExportModelRequest, pb.ExportModelResponse],
    ) -> pb.ExportModelResponse:
        await self._register.check_job(request.job_id, caller())
        row = await self._exports.ask(request, caller())
        return pb.ExportModelResponse(artifact=shown(row, self._store))

    async def WatchExports(
        self,
        request: pb.WatchExportsRequest,
        context: grpc.aio.ServicerContext[pb.WatchExportsRequest, pb.WatchExportsResponse],
    ) -> AsyncIterator[pb.WatchExportsResponse]:
        async for response in self._exports.watch(caller()):
            yield response

    async def UploadArtifact(
        self,
        request_iterator: AsyncIterator[pb.UploadArtifactRequest],
        context: grpc.aio.ServicerContext[pb.UploadArtifactRequest, pb.UploadArtifactResponse],
    ) -> AsyncIterator[pb.UploadArtifactResponse]:
        principal = caller()
        first = await anext(aiter(request_iterator), None)
        if first is None or not first.HasField("header"):
            raise InvalidField("message", "no header", "an upload begins with its header")
        try:
            row = await self._uploads.admit(first.header, principal)
        except NeverTaken as error:
            yield pb.UploadArtifactResponse(refused=str(error))
            return
        if row["state"] == READY:
            yield pb.UploadArtifactResponse(offset=row["bytes"], artifact=shown(row, self._store))
            return
        if row["kind"] != CHECKPOINT and first.header.bytes == 0:
            reason = await anext(aiter(request_iterator), None)
            row = await self._uploads.fail(row, reason.failed if reason is not None else "")
            yield pb.UploadArtifactResponse(artifact=shown(row, self._store))
            return
        async with self._uploads.open(row) as upload:
            yield pb.UploadArtifactResponse(offset=upload.offset)
            while not upload.complete:
                request = await anext(aiter(request_iterator), None)
                if request is None:
                    return
                self._kernel.shell.check_still_valid(principal)
                if not request.chunk:
                    raise InvalidField("message", request.WhichOneof("message"), "after the header come chunks")
                await upload.write(request.chunk)
                if not upload.complete:
                    yield pb.UploadArtifactResponse(offset=upload.offset)
            row = await self._uploads.finish(upload, principal)
            yield pb.UploadArtifactResponse(offset=row["bytes"], artifact=shown(row, self._store))
