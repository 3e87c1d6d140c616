"""From a training on a box to a model that runs without the platform."""

import json
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from protos.metrics.v1 import artifact_pb2 as pb
from protos.metrics.v1.artifact_pb2_grpc import ArtifactServiceStub
from protos.scheduler.v1 import job_pb2
from protos.training.v1.training_pb2 import Limits
from tests.support.artifacts import download
from tests.support.eventually import eventually
from tests.support.metrics_service import Metrics
from tests.support.platform import SharedPlatform
from tests.support.stack import stack_on


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_the_exported_model_of_a_training_knows_the_digits(platform: SharedPlatform, tmp_path: Path) -> None:
    async with (
        stack_on(platform, tmp_path, runner="exporting") as stack,
        grpc.aio.insecure_channel(platform.endpoints["metrics"]) as channel,
    ):
        job = await stack.over((await stack.submit(limits=Limits(epochs=8))).job_id)
        assert job.state == job_pb2.JOB_STATE_FINISHED, job.message

        async def on_the_platform() -> bool:
            return all(one.artifact_id for one in (await stack.job(job.job_id)).checkpoints)

        await eventually(on_the_platform, 60, "the checkpoints on the platform")
        service = ArtifactServiceStub(channel)
        request = pb.ExportModelRequest(job_id=job.job_id, kind=pb.ARTIFACT_KIND_ONNX)
        asked = (await stack.call(service.ExportModel, request)).artifact

        async def made() -> pb.Artifact | None:
            response = await stack.call(service.ListArtifacts, pb.ListArtifactsRequest(job_id=job.job_id))
            found = next(one for one in response.artifacts if one.artifact_id == asked.artifact_id)
            assert found.state != pb.ARTIFACT_STATE_FAILED, found.message
            return found if found.state == pb.ARTIFACT_STATE_READY else None

        artifact = await eventually(made, 120, "the exported model")
        assert artifact is not None
        content = await download(Metrics(0, channel), artifact.artifact_id, token=platform.token)
        assert right_share(content, stack.folder / "digits") > 0.9


def right_share(model: bytes, digits: Path) -> float:
    """Of a tenth of the digits, as a stranger would use the file."""
    session = onnxruntime.InferenceSession(model)
    about = session.get_modelmeta().custom_metadata_map
    classes, size = json.loads(about["classes"]), int(about["image_size"])
    mean, deviation = (np.array(json.loads(about[name]), "float32") for name in ("mean", "deviation"))
    paths = sorted(path for path in digits.rglob("*") if path.is_file())[::10]
    images = [Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR) for path in paths]
    pixels = (np.stack([np.asarray(image, "float32") for image in images]) / 255 - mean) / deviation
    (logits,) = session.run(None, {"pixels": pixels.transpose(0, 3, 1, 2).copy()})
    found = [classes[index] for index in logits.argmax(1)]
    return float(np.mean([name == path.parent.name for name, path in zip(found, paths, strict=True)]))
