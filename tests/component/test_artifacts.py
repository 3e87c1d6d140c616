"""Artifacts: a file arrives whole and once, whoever dies meanwhile, and only from and for those who may."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import grpc
import pytest

from deploy.local.ports import free_port
from protos.metrics.v1 import artifact_pb2 as pb
from services.eventlog.appender import take_append_lock
from services.eventlog.projection import forget_checkpoint
from tests.support.artifacts import File, artifact_events, download, listed, stored, tell_saved, upload
from tests.support.eventually import eventually
from tests.support.metrics_service import (
    ATTEMPT,
    JOB,
    KEY,
    OTHER_KEY,
    OTHER_TOKEN,
    TOKEN,
    WORKSPACE,
    Log,
    Metrics,
    log_of_one_job,
    metadata,
    metrics_process,
    serving,
)
from tests.support.platform import DatabaseUrls
from tests.support.small_disk import SmallDisk

FILE = File()


@pytest.fixture
async def log(database: DatabaseUrls) -> AsyncIterator[Log]:
    async with log_of_one_job(database) as log:
        yield log


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    return {"artifact_store": str(tmp_path / "store"), "artifact_uploads": str(tmp_path / "uploads")}


@pytest.fixture
async def metrics(database: DatabaseUrls, log: Log, folders: dict[str, str]) -> AsyncIterator[Metrics]:
    async with serving(database, **folders) as metrics:
        yield metrics


def files_in(folder: str) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


async def test_a_broken_upload_goes_on_where_it_ended_and_a_repeat_changes_nothing(
    metrics: Metrics, database: DatabaseUrls, folders: dict[str, str]
) -> None:
    answers = await upload(metrics, FILE, stop_at=300_000)
    assert [answer.offset for answer in answers] == [0, 65536, 131072, 196608, 262144, 300_000]
    assert not answers[-1].HasField("artifact")
    assert [(one.state, one.name) for one in await listed(metrics)] == [(pb.ARTIFACT_STATE_PENDING, FILE.name)]
    answers = await upload(metrics, FILE)
    assert answers[0].offset == 300_000
    artifact = answers[-1].artifact
    assert (artifact.state, artifact.sha256, artifact.bytes) == (pb.ARTIFACT_STATE_READY, FILE.sha256, FILE.size)
    repeated = await upload(metrics, FILE)
    assert [answer.artifact.artifact_id for answer in repeated] == [artifact.artifact_id]
    assert await artifact_events(database) == [("ArtifactStored", artifact.artifact_id)]
    path = Path(folders["artifact_store"], WORKSPACE, JOB, artifact.artifact_id, FILE.name)
    assert files_in(folders["artifact_store"]) == [path]
    assert artifact.location == f"file://{path}"
    assert files_in(folders["artifact_uploads"]) == []
    assert await download(metrics, artifact.artifact_id) == FILE.content
    assert await download(metrics, artifact.artifact_id, offset=999_000) == FILE.content[999_000:]


async def test_of_a_file_that_the_store_has_lost_it_is_said_that_no_patience_helps(
    metrics: Metrics, folders: dict[str, str]
) -> None:
    artifact = await stored(metrics, FILE)
    for path in files_in(folders["artifact_store"]):
        path.unlink()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await download(metrics, artifact.artifact_id)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert (refused.value.details() or "").startswith(
        f"the file of {FILE.name} is not in the platform's artifact store any more; put it back"
    )


async def test_of_two_streams_of_a_file_the_newest_has_it_and_the_file_is_whole(metrics: Metrics) -> None:
    old = metrics.artifacts.UploadArtifact(metadata=metadata(KEY), timeout=20)
    await old.write(pb.UploadArtifactRequest(header=FILE.header()))
    assert (await old.read()).offset == 0  # type: ignore[union-attr]
    await old.write(pb.UploadArtifactRequest(chunk=FILE.content[:100_000]))
    assert (await old.read()).offset == 100_000  # type: ignore[union-attr]
    assert (await upload(metrics, FILE, stop_at=200_000))[0].offset == 100_000
    await old.write(pb.UploadArtifactRequest(chunk=b"x" * 1000))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await old.read()
    assert refused.value.code() is grpc.StatusCode.ABORTED
    answers = await asyncio.gather(upload(metrics, FILE), upload(metrics, FILE), return_exceptions=True)
    done = [one[-1].artifact for one in answers if isinstance(one, list)]
    assert {artifact.state for artifact in done} == {pb.ARTIFACT_STATE_READY}
    assert await download(metrics, done[0].artifact_id) == FILE.content


async def test_a_file_that_is_being_stored_while_its_caller_goes_away_is_stored_once(
    metrics: Metrics, database: DatabaseUrls, folders: dict[str, str]
) -> None:
    connection = await asyncpg.connect(database.admin)
    try:
        async with connection.transaction():
            # The file is in the store, and it cannot be said yet.
            await take_append_lock(connection)
            gone = asyncio.create_task(upload(metrics, FILE))
            await eventually(lambda: files_in(folders["artifact_store"]), what="the file in the store")
            gone.cancel()
            again = asyncio.create_task(upload(metrics, FILE))
            await asyncio.wait([again], timeout=0.3)
    finally:
        await connection.close()
    answers = await again
    assert [answer.offset for answer in answers] == [FILE.size, FILE.size]
    assert answers[-1].artifact.state == pb.ARTIFACT_STATE_READY
    assert len(await artifact_events(database)) == 1
    assert len(files_in(folders["artifact_store"])) == 1
    await eventually(lambda: not files_in(folders["artifact_uploads"]), what="the end of what came in parts")


async def test_a_corrupt_file_is_thrown_away_and_may_be_sent_again(
    metrics: Metrics, database: DatabaseUrls, folders: dict[str, str]
) -> None:
    corrupt = FILE.content[:500] + b"\x00" + FILE.content[501:]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await upload(metrics, FILE, content=corrupt)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "it was thrown away, send the file again" in (refused.value.details() or "")
    assert files_in(folders["artifact_store"]) == []
    artifact = await stored(metrics, FILE)
    assert await download(metrics, artifact.artifact_id) == FILE.content
    assert len(await artifact_events(database)) == 1


async def test_more_than_was_announced_and_chunks_beyond_the_limit_are_refused(metrics: Metrics) -> None:
    for content, chunk, words in (
        (FILE.content + b"x", FILE.size + 1, "the header says 1000000 bytes"),
        (FILE.content * 2, (1 << 20) + 1, "a chunk has at most 1048576 bytes"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await upload(metrics, FILE, content=content, chunk=chunk)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert words in (refused.value.details() or "")


async def test_a_box_sends_only_files_of_its_own_attempts_under_plain_names(metrics: Metrics, log: Log) -> None:
    assert "is not this runner's" in (await upload(metrics, FILE, key=OTHER_KEY))[0].refused
    assert "is not this runner's" in (await upload(metrics, FILE, FILE.header(attempt_id="at_none")))[0].refused
    for name in ("../x", "a/b", ".hidden", "x" * 201, "a\nb", ""):
        header = FILE.header()
        header.name = name
        assert "is not a plain file name" in (await upload(metrics, FILE, header))[0].refused
    artifact = await stored(metrics, FILE)
    other = FILE.header()
    other.sha256 = "0" * 64
    assert "the platform has another file" in (await upload(metrics, FILE, other))[0].refused
    assert await download(metrics, artifact.artifact_id, token=KEY) == FILE.content
    for token in (OTHER_TOKEN, OTHER_KEY):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await download(metrics, artifact.artifact_id, token=token)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await listed(metrics, token=OTHER_TOKEN)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await upload(metrics, FILE, key=TOKEN)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_each_limit_has_a_sentence_and_refuses_for_good(
    database: DatabaseUrls, log: Log, folders: dict[str, str]
) -> None:
    async with serving(
        database, max_artifact_bytes=2_000_000, max_artifact_bytes_per_workspace=2_500_000, **folders
    ) as m:
        big = File("big.safetensors", 2_000_001)
        assert "above the limit of 2000000 bytes for one artifact" in (await upload(m, big))[0].refused
        await stored(m, FILE)
        second = File("second.safetensors", 1_500_001)
        refused = (await upload(m, second))[0].refused
        assert "the workspace keeps 1000000 of the 2500000 bytes that it may" in refused
        await stored(m, File("third.safetensors", 1_500_000))
        failed = {one.name: one.message for one in await listed(m) if one.state == pb.ARTIFACT_STATE_FAILED}
        assert failed.keys() == {big.name, second.name}
        assert failed[second.name] == refused
    async with serving(database, max_artifact_bytes=3_000_000, **folders) as m:
        await stored(m, big)


async def test_a_checkpoint_that_the_strategy_drops_goes_from_the_store_too(
    metrics: Metrics, database: DatabaseUrls, log: Log, folders: dict[str, str]
) -> None:
    newer = File("step-00000200.safetensors")
    await tell_saved(log, FILE)
    artifact = await stored(metrics, FILE)
    await log.append(WORKSPACE, "job", JOB, newer.saved(removed=(FILE.name,)))
    kept = await stored(metrics, newer)
    await eventually(lambda: len(files_in(folders["artifact_store"])) == 1, what="the removal of the file")
    assert await artifact_events(database) == [
        ("ArtifactStored", artifact.artifact_id),
        ("ArtifactStored", kept.artifact_id),
        ("ArtifactRemoved", artifact.artifact_id),
    ]
    assert [one.name for one in await listed(metrics)] == [newer.name]
    assert "was dropped" in (await upload(metrics, FILE))[0].refused


async def test_a_file_that_cannot_be_removed_keeps_nothing_else_from_going(
    metrics: Metrics, database: DatabaseUrls, log: Log, folders: dict[str, str]
) -> None:
    files = [FILE, File("step-00000200.safetensors", 1000), File("step-00000300.safetensors", 1000)]
    await tell_saved(log, *files[:2])
    first, second = [await stored(metrics, file) for file in files[:2]]
    stuck, path = (
        Path(folders["artifact_store"], WORKSPACE, JOB, one.artifact_id, one.name) for one in (first, second)
    )
    stuck.unlink()
    stuck.mkdir()
    connection = await asyncpg.connect(database.admin)
    try:
        # An export of long ago that no box has made.
        await connection.execute(
            "insert into metrics.artifacts (artifact_id, workspace_id, job_id, attempt_id, kind, name, created_at_ms) "
            "values ('af_old', $1, $2, $3, 2, 'old.onnx', 0)",
            WORKSPACE,
            JOB,
            ATTEMPT,
        )
        await log.append(WORKSPACE, "job", JOB, files[2].saved(removed=(files[0].name, files[1].name)))
        await eventually(lambda: not path.exists(), what="the removal of the other file")

        async def given_up() -> bool:
            return await connection.fetchval("select state = 3 from metrics.artifacts where artifact_id = 'af_old'")

        await eventually(given_up, what="the end of the export")
        assert stuck.is_dir()
        stuck.rmdir()

        async def cleared() -> bool:
            return not await connection.fetchval("select count(*) from metrics.artifacts where state = 4 and file_left")

        await eventually(cleared, what="another try")
    finally:
        await connection.close()


async def test_the_known_checkpoints_are_rebuilt_from_the_log_as_they_were(
    database: DatabaseUrls, log: Log, folders: dict[str, str]
) -> None:
    files = [File(f"step-0000{number}00.safetensors") for number in range(4)]
    await log.append(WORKSPACE, "job", JOB, files[0].saved(best=True), files[1].saved(removed=(files[0].name,)))
    await log.attempt(JOB, "at_two")
    # A repeated attempt makes a step again, and drops what the one before it has saved.
    await log.append(
        WORKSPACE, "job", JOB, files[1].saved("at_two"), files[2].saved("at_two", removed=(files[1].name,))
    )
    head = await log.append(WORKSPACE, "job", JOB, files[3].saved("at_two", best=True, removed=(files[1].name,)))
    connection = await asyncpg.connect(database.admin)

    async def rows() -> list[tuple[object, ...]]:
        known = await connection.fetchval(
            "select position from metrics.checkpoints where name = 'saved_checkpoints' and position >= $1", head
        )
        found = await connection.fetch("select * from metrics.saved_checkpoints order by attempt_id, name")
        return [tuple(row) for row in found] if known else []

    try:
        async with serving(database, **folders):
            before = await eventually(rows, what="the read model")
        assert [(row[0], row[1], row[8]) for row in before] == [
            (ATTEMPT, files[0].name, True),
            (ATTEMPT, files[1].name, True),
            ("at_two", files[1].name, True),
            ("at_two", files[2].name, False),
            ("at_two", files[3].name, False),
        ]
        await forget_checkpoint(connection, "metrics", "saved_checkpoints")
        async with serving(database, **folders):
            assert await eventually(rows, what="the rebuilt read model") == before
    finally:
        await connection.close()


async def test_a_service_that_is_killed_in_the_middle_has_the_file_whole_and_once(
    database: DatabaseUrls, log: Log, folders: dict[str, str]
) -> None:
    big, port = File("big.safetensors", 8_000_000), free_port()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        metrics = Metrics(port, channel)
        async with metrics_process(database, port, **folders) as process:
            call = metrics.artifacts.UploadArtifact(metadata=metadata(KEY), timeout=20, wait_for_ready=True)
            await call.write(pb.UploadArtifactRequest(header=big.header()))
            assert (await call.read()).offset == 0  # type: ignore[union-attr]
            for start in range(0, 4_000_000, 100_000):
                await call.write(pb.UploadArtifactRequest(chunk=big.content[start : start + 100_000]))
                assert (await call.read()).offset == start + 100_000  # type: ignore[union-attr]
            process.kill()
        async with metrics_process(database, port, **folders):

            async def again() -> list[pb.UploadArtifactResponse]:
                return await upload(metrics, big)

            answers = await eventually(again, what="the rest of the file")
            assert answers[0].offset == 4_000_000
            artifact = answers[-1].artifact
            assert artifact.state == pb.ARTIFACT_STATE_READY
            assert await download(metrics, artifact.artifact_id) == big.content
    assert len(await artifact_events(database)) == 1
    assert len(files_in(folders["artifact_store"])) == 1


@pytest.mark.mounts
async def test_a_full_store_says_so_and_takes_the_file_once_there_is_room(
    database: DatabaseUrls, log: Log, tmp_path: Path
) -> None:
    with SmallDisk(tmp_path / "disk") as disk:
        store, uploads = str(disk.path / "store"), str(disk.path / "uploads")
        async with serving(database, artifact_store=store, artifact_uploads=uploads) as metrics:
            await upload(metrics, FILE, stop_at=100_000)
            disk.fill()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await upload(metrics, FILE)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "artifact store does not take the file at the moment (No space left on device)" in (
                refused.value.details() or ""
            )
            disk.free()
            artifact = await stored(metrics, FILE)
            assert await download(metrics, artifact.artifact_id) == FILE.content
