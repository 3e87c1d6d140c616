"""The artifact store at an s3:// address, with a stand-in for S3 on a real socket."""

import asyncio
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from deploy.local.ports import free_port
from tests.support.artifacts import File, download, stored, upload
from tests.support.eventually import eventually
from tests.support.metrics_service import ATTEMPT, JOB, WORKSPACE, Log, Metrics, log_of, metrics_process
from tests.support.platform import DatabaseUrls

FILE, NEWER = File("step-00000100.safetensors", 6_000_000), File("step-00000200.safetensors", 1000)


@pytest.fixture
async def s3(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Address of a store without a bucket, and the environment of its clients."""
    address = f"http://127.0.0.1:{free_port()}"
    values = {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key", "DEFAULT_REGION": "us-east-1"}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "moto.server", "-p", address.rpartition(":")[2]),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield address
    finally:
        process.kill()
        await process.wait()


def make_bucket(address: str) -> bool:
    with urllib.request.urlopen(urllib.request.Request(f"{address}/models", method="PUT"), timeout=5) as response:
        return bool(response.status == 200)


@pytest.mark.slow
async def test_a_bucket_takes_gives_and_loses_files_and_a_missing_one_is_told(
    database: DatabaseUrls, s3: str, tmp_path: Path
) -> None:
    port = free_port()
    settings = {"artifact_store": "s3://models/tether", "artifact_uploads": str(tmp_path)}
    async with (
        log_of(database) as log,
        metrics_process(database, port, **settings),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_reconnect_backoff_ms", 200)]) as channel,
    ):
        await prepare(log)
        metrics = Metrics(port, channel)

        async def refused() -> str:
            try:
                await upload(metrics, FILE)
            except grpc.aio.AioRpcError as error:
                details = error.details() or ""
                # The service, or the stand-in, may not be up yet.
                return details if "store" in details and "onnect" not in details else ""
            return ""

        async def without_a_bucket() -> bool:
            return (
                "artifact store does not take the file at the moment (The specified bucket does not" in await refused()
            )

        await eventually(without_a_bucket, 60, what="a refusal of the store")
        await eventually(lambda: make_bucket(s3), 60, what="a bucket")
        artifact = await stored(metrics, FILE)
        assert artifact.location == f"s3://models/tether/{WORKSPACE}/{JOB}/{artifact.artifact_id}/{FILE.name}"
        assert await download(metrics, artifact.artifact_id, offset=5_999_000) == FILE.content[5_999_000:]
        assert await download(metrics, artifact.artifact_id) == FILE.content
        assert list(tmp_path.iterdir()) == []
        await log.append(WORKSPACE, "job", JOB, NEWER.saved(removed=(FILE.name,)))
        url = f"{s3}/models/tether/{WORKSPACE}/{JOB}/{artifact.artifact_id}/{FILE.name}"
        await eventually(lambda: gone(url), what="the removal")


async def prepare(log: Log) -> None:
    await log.people()
    await log.job(JOB, ATTEMPT)
    await log.append(WORKSPACE, "job", JOB, FILE.saved())


def gone(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 404
    return False
