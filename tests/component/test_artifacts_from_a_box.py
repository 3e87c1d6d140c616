"""Checkpoints on their way from a box and to it: late, after every death, and never in a training's way."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import onnxruntime
import pytest

from deploy.local.ports import free_port
from protos.events.v1.job_pb2 import CheckpointSaved
from protos.events.v1.runner_pb2 import RunnerRegistered
from protos.events.v1.workspace_pb2 import ROLE_MEMBER, TokenCreated
from protos.metrics.v1 import artifact_pb2 as pb
from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from services.ids import sha256
from tests.support.artifacts import File, artifact_events, download, listed, upload
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.installed_runner import KEY, InstalledRunner
from tests.support.metrics_service import WORKSPACE, Log, Metrics, log_of, metadata, metrics_process, serving
from tests.support.model_checkpoint import CLASSES, saved, trained
from tests.support.platform import DatabaseUrls
from tests.support.small_disk import SmallDisk

MEMBER = "tt_of_member"
JOB, NAME, SIZE = "job-of-a1", "step-00000005.safetensors", 8_000_000
EARLIER = File("step-00000042.safetensors", 3_000_000)


@pytest.fixture
async def log(database: DatabaseUrls) -> AsyncIterator[Log]:
    """The scheduler's events: two jobs of the box, the earlier one with a checkpoint."""
    async with log_of(database) as log:
        await log.people()
        member = TokenCreated(token_id="member", role=ROLE_MEMBER, token_sha256=sha256(MEMBER))
        await log.append(WORKSPACE, "workspace", WORKSPACE, member)
        await log.append(WORKSPACE, "runner", "rn_box", RunnerRegistered(name="box", key_sha256=sha256(KEY)))
        await log.job(JOB, "a1", runner_id="rn_box")
        await log.job("jb_one", "at_one")
        yield log


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    scheduler = await FakeScheduler().start()
    scheduler.ingest_address = f"127.0.0.1:{free_port()}"
    yield scheduler
    await scheduler.stop()


@pytest.fixture
def box(tmp_path: Path, scheduler: FakeScheduler) -> AsyncIterator[InstalledRunner]:
    with InstalledRunner(tmp_path / "state", scheduler.address) as box:
        yield box


@pytest.fixture
async def metrics(scheduler: FakeScheduler) -> AsyncIterator[Metrics]:
    options = [("grpc.max_reconnect_backoff_ms", 200)]
    async with grpc.aio.insecure_channel(scheduler.ingest_address, options=options) as channel:
        yield Metrics(int(scheduler.ingest_address.rpartition(":")[2]), channel)


def settings(folder: Path) -> dict[str, str]:
    return {"artifact_store": str(folder / "store"), "artifact_uploads": str(folder / "uploads")}


async def goes_on(box: InstalledRunner) -> None:
    step = box.held()[0]["step"]
    await eventually(lambda: box.held()[0]["step"] > step + 5, what="further steps")


async def ready(metrics: Metrics) -> pb.Artifact | None:
    found = [one for one in await listed(metrics, JOB) if one.state == pb.ARTIFACT_STATE_READY]
    return found[0] if found else None


def complaints(box: InstalledRunner) -> list[str]:
    """Of a full disk, in the agent's log: one for each agent, however often it tries."""
    lines = box.folder.agent_log.read_text().splitlines()
    return [line for line in lines if "cannot be uploaded now" in line and "No space left on device" in line]


@pytest.mark.mounts
async def test_a_checkpoint_arrives_whole_and_once_after_a_full_disk_and_the_death_of_agent_and_service(
    database: DatabaseUrls, log: Log, scheduler: FakeScheduler, box: InstalledRunner, metrics: Metrics, tmp_path: Path
) -> None:
    with SmallDisk(tmp_path / "parts") as parts, SmallDisk(tmp_path / "kept") as kept:
        for disk in (parts, kept):
            (disk.path / "ballast").write_bytes(b"x" * (12 << 20))
        places = {"artifact_store": str(kept.path / "store"), "artifact_uploads": str(parts.path / "uploads")}
        async with metrics_process(database, metrics.port, **places) as service:
            box.start_keeper("--checkpoint-at-step", "5", "--checkpoint-bytes", str(SIZE))
            box.start_agent()
            await eventually(lambda: scheduler.hellos, what="Hello")
            scheduler.direct("a1")
            await eventually(lambda: complaints(box), 60, what="a service that has no room")
            assert 0 < sum(one.stat().st_size for one in (parts.path / "uploads").iterdir()) < SIZE
            await goes_on(box)
            box.kill_agent()
            service.kill()
        (parts.path / "ballast").unlink()
        async with metrics_process(database, metrics.port, **places):
            box.start_agent()
            await eventually(lambda: len(complaints(box)) == 2, 60, what="a store that has no room")
            assert [one.stat().st_size for one in (parts.path / "uploads").iterdir()] == [SIZE]
            await goes_on(box)
            (kept.path / "ballast").unlink()
            artifact = await eventually(lambda: ready(metrics), 60, what="the stored checkpoint")
            assert artifact is not None
            content = (box.attempt("a1").path / "checkpoints" / NAME).read_bytes()
            assert await download(metrics, artifact.artifact_id) == content
            assert (artifact.name, artifact.step, artifact.bytes) == (NAME, 5, SIZE)
            await goes_on(box)
            scheduler.direct("a1", stop_reason=training_pb2.END_REASON_STOPPED_BY_PERSON)
            await eventually(lambda: scheduler.ended("a1"), what="the end")
            await eventually((box.attempt("a1").path / "uploaded").exists, what="the end of its uploads")
        assert await artifact_events(database) == [("ArtifactStored", artifact.artifact_id)]


async def with_earlier(log: Log, metrics: Metrics) -> str:
    """Id of the earlier job's checkpoint on the platform."""
    await log.append(
        WORKSPACE, "job", "jb_one", CheckpointSaved(attempt_id="at_one", checkpoint=EARLIER.saved().checkpoint)
    )
    answers = await eventually(lambda: upload(metrics, EARLIER), what="an upload")
    return answers[-1].artifact.artifact_id


def resuming(artifact_id: str, digest: str = EARLIER.sha256) -> training_pb2.TrainingSpec:
    found = training_pb2.ResumeFrom(
        job_id="jb_one", attempt_id="at_one", checkpoint=EARLIER.name, sha256=digest, artifact_id=artifact_id
    )
    return training_pb2.TrainingSpec(resume_from=found)


async def test_an_attempt_starts_once_its_checkpoint_has_come_from_the_platform(
    database: DatabaseUrls, log: Log, scheduler: FakeScheduler, box: InstalledRunner, metrics: Metrics, tmp_path: Path
) -> None:
    async with serving(database, listen=scheduler.ingest_address, **settings(tmp_path)):
        artifact_id = await with_earlier(log, metrics)
    box.start_keeper()
    box.start_agent()
    await eventually(lambda: scheduler.hellos, what="Hello")
    scheduler.direct("a1", spec=resuming(artifact_id))
    await eventually(lambda: "cannot be fetched now" in box.folder.agent_log.read_text(), what="a try")
    assert not box.attempt("a1").started()
    async with serving(database, listen=scheduler.ingest_address, **settings(tmp_path)):
        await eventually(lambda: scheduler.facts("a1") == ["started"], what="the start")
    inputs = box.attempt("a1").path / "inputs"
    assert [path.name for path in inputs.iterdir()] == [EARLIER.name]
    assert (inputs / EARLIER.name).read_bytes() == EARLIER.content


async def test_an_attempt_whose_checkpoint_is_another_one_fails_for_the_infrastructure_and_never_starts(
    database: DatabaseUrls, log: Log, scheduler: FakeScheduler, box: InstalledRunner, metrics: Metrics, tmp_path: Path
) -> None:
    async with serving(database, listen=scheduler.ingest_address, **settings(tmp_path)):
        artifact_id = await with_earlier(log, metrics)
        box.start_keeper()
        box.start_agent()
        await eventually(lambda: scheduler.hellos, what="Hello")
        for attempt, spec, words in (
            ("a1", resuming(artifact_id, "0" * 64), "came from the platform with another content than was saved"),
            ("a2", resuming("af_unknown"), "there is no artifact 'af_unknown'"),
        ):
            scheduler.direct(attempt, spec=spec)
            ended = await eventually(lambda name=attempt: scheduler.ended(name), what="the end")  # type: ignore[misc]
            assert (ended.outcome, ended.reason) == (
                session_pb2.OUTCOME_FAILED,
                training_pb2.END_REASON_INFRASTRUCTURE,
            )
            assert words in ended.message
            assert scheduler.facts(attempt) == ["ended"]


async def test_an_attempt_that_waits_for_its_checkpoint_can_be_stopped(
    log: Log, scheduler: FakeScheduler, box: InstalledRunner
) -> None:
    box.start_keeper()
    box.start_agent()
    await eventually(lambda: scheduler.hellos, what="Hello")
    scheduler.direct("a1", spec=resuming("af_away"))
    await eventually(lambda: "cannot be fetched now" in box.folder.agent_log.read_text(), what="a try")
    stop = training_pb2.END_REASON_STOPPED_BY_PERSON
    scheduler.direct("a1", spec=resuming("af_away"), stop_reason=stop)
    ended = await eventually(lambda: scheduler.ended("a1"), what="the end")
    assert (ended.outcome, ended.reason) == (session_pb2.OUTCOME_KILLED, stop)
    assert scheduler.facts("a1") == ["ended"]


async def ask(metrics: Metrics, name: str) -> pb.Artifact:
    """For an export to ONNX."""
    request = pb.ExportModelRequest(job_id=JOB, checkpoint=name, kind=pb.ARTIFACT_KIND_ONNX)
    return (await metrics.artifacts.ExportModel(request, metadata=metadata(MEMBER), timeout=20)).artifact


async def test_a_box_says_why_it_cannot_export_a_checkpoint_that_is_gone(
    database: DatabaseUrls, log: Log, scheduler: FakeScheduler, box: InstalledRunner, tmp_path: Path
) -> None:
    gone = training_pb2.Checkpoint(name="gone.safetensors", step=1, bytes=1, sha256="0" * 64)
    await log.append(WORKSPACE, "job", JOB, CheckpointSaved(attempt_id="a1", checkpoint=gone))
    async with serving(database, listen=scheduler.ingest_address, **settings(tmp_path)) as metrics:
        await ask(metrics, gone.name)
        box.start_agent()

        async def failed() -> list[str]:
            return [one.message for one in await listed(metrics, JOB) if one.state == pb.ARTIFACT_STATE_FAILED]

        assert await eventually(failed, what="the end of the export") == [
            "the checkpoint gone.safetensors is neither on its box any more nor on the platform"
        ]


@pytest.mark.slow
async def test_a_box_exports_a_checkpoint_that_it_has(
    database: DatabaseUrls, log: Log, scheduler: FakeScheduler, box: InstalledRunner, tmp_path: Path
) -> None:
    model, about = trained("TASK_CLASSIFICATION")
    folder = box.attempt("a1").path / "checkpoints"
    folder.mkdir(parents=True)
    content = saved(folder, model, about).read_bytes()
    told = training_pb2.Checkpoint(
        name="step-00000120.safetensors", step=120, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    await log.append(WORKSPACE, "job", JOB, CheckpointSaved(attempt_id="a1", checkpoint=told))
    async with serving(database, listen=scheduler.ingest_address, **settings(tmp_path)) as metrics:
        await ask(metrics, told.name)
        box.start_agent()
        artifact = await eventually(lambda: ready(metrics), 90, what="the export")
        assert artifact is not None
        assert (artifact.name, artifact.step, artifact.checkpoint) == ("step-00000120.onnx", 120, told.name)
        session = onnxruntime.InferenceSession(await download(metrics, artifact.artifact_id))
        assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == CLASSES
        await eventually(lambda: not box.folder.exports.exists(), what="an empty folder")
