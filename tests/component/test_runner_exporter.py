"""An export that cannot be delivered holds up none behind it, and never ends the agent."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from protos.metrics.v1 import artifact_pb2 as pb
from protos.metrics.v1 import artifact_pb2_grpc
from runner_agent import side_process
from runner_agent.artifact_calls import ArtifactCalls
from runner_agent.config import parse_server
from runner_agent.exporter import Exporter
from tests.support.eventually import eventually

ATTEMPT, NAME, GONE = "at_1", "step-00000001.safetensors", "gone.safetensors"
FINAL = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INVALID_ARGUMENT,
)


class Platform(artifact_pb2_grpc.ArtifactServiceServicer):
    """Orders exports, once, and takes them as it is told to."""

    def __init__(self, folder: Path, orders: list[pb.ExportOnBox]) -> None:
        self._folder, self._orders = folder, orders
        # Artifact id → what its uploads are answered with.
        self.codes: dict[str, grpc.StatusCode] = {}
        self.files_vanish = ""
        self.failed: dict[str, str] = {}
        self.stored: dict[str, bytes] = {}

    async def WatchExports(
        self,
        request: pb.WatchExportsRequest,
        context: grpc.aio.ServicerContext[pb.WatchExportsRequest, pb.WatchExportsResponse],
    ) -> AsyncIterator[pb.WatchExportsResponse]:
        yield pb.WatchExportsResponse(exports=self._orders)
        await asyncio.Event().wait()

    async def UploadArtifact(
        self,
        request_iterator: AsyncIterator[pb.UploadArtifactRequest],
        context: grpc.aio.ServicerContext[pb.UploadArtifactRequest, pb.UploadArtifactResponse],
    ) -> AsyncIterator[pb.UploadArtifactResponse]:
        header = (await anext(request_iterator)).header
        name = header.artifact_id
        if name in self.codes:
            await context.abort(self.codes[name], "the platform says no")
        if name == self.files_vanish:
            shutil.rmtree(self._folder, ignore_errors=True)
        yield pb.UploadArtifactResponse()
        async for message in request_iterator:
            if message.failed:
                self.failed[name] = message.failed
            else:
                self.stored[name] = message.chunk
            yield pb.UploadArtifactResponse(artifact=pb.Artifact(artifact_id=name))


def order(name: str, checkpoint: str = NAME) -> pb.ExportOnBox:
    return pb.ExportOnBox(
        artifact_id=name, job_id="jb_1", attempt_id=ATTEMPT, checkpoint=checkpoint, kind=pb.ARTIFACT_KIND_ONNX
    )


async def exports(command: list[str], timeout_s: float) -> int:
    """Instead of the process that loads torch."""
    await asyncio.to_thread(Path(command[command.index("--output") + 1]).write_bytes, b"model")
    return 0


async def test_an_export_that_cannot_be_delivered_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_process, "run", exports)
    checkpoints = tmp_path / "attempts" / ATTEMPT / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / NAME).write_bytes(b"x")
    refused = {code.name: code for code in FINAL}
    orders = [order(name) for name in refused] + [order("nowhere", GONE), order("vanishes"), order("good")]
    platform = Platform(tmp_path / "exports", orders)  # type: ignore[abstract]
    platform.codes = {**refused, "nowhere": grpc.StatusCode.NOT_FOUND}
    platform.files_vanish = "vanishes"
    server = grpc.aio.server()
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(platform, server)
    address = parse_server(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    calls = ArtifactCalls(lambda: address, "tk_key")
    exporter = asyncio.create_task(
        Exporter(calls, tmp_path / "attempts", tmp_path / "exports", jitter=lambda: 0.0).run()
    )
    try:
        await eventually(lambda: platform.stored or exporter.done(), what="the last export")
        assert not exporter.done()
    finally:
        exporter.cancel()
        await asyncio.gather(exporter, return_exceptions=True)
        await server.stop(None)
    assert platform.stored == {"good": b"model"}
    assert platform.failed == {"vanishes": "the export was removed from the box while it was sent; ask for it again"}
