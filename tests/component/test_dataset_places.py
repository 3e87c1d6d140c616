"""Where datasets may lie: folders and protocols that the box's owner allows, and URLs that are fetched."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protos.training.v1 import training_pb2
from runner_agent import dataset_cache, disk
from runner_agent.cli import app
from runner_agent.config import BoxConfig, StateFolder
from runner_agent.trainer.check import check
from runner_agent.trainer.datasets import places
from runner_agent.trainer.datasets.loading import Stopped, load
from runner_agent.trainer.datasets.places import Places
from runner_agent.trainer.failures import DatasetFailure
from tests.support import datasets
from tests.support.bucket import Bucket, serving

URL = "s3://bucket/digits"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """The state folder of a runner whose datasets may lie below `data` and in S3."""
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "data").mkdir()
    config = BoxConfig(
        name="box",
        server="127.0.0.1:1",
        dataset_roots=(str(tmp_path / "data"),),
        dataset_protocols=("file", "s3"),
    )
    StateFolder(state).save(config)
    return state


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    datasets.image_folder(tmp_path / "remote" / "digits", 20)
    with serving(tmp_path / "remote") as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        yield bucket


def look(location: Path | str, where: Places) -> training_pb2.DatasetReport:
    return check(str(location), lambda: False, places=where)


def told(report: training_pb2.DatasetReport) -> str:
    assert not report.usable
    return report.problems[0].message


def fetched(where: Places) -> list[Path]:
    return sorted(path for path in where.cache.iterdir() if path.is_dir())


def test_a_box_without_settings_reads_any_folder_and_no_url(tmp_path: Path) -> None:
    root = datasets.image_folder(tmp_path / "any where", 4)
    where = places.of(tmp_path)
    assert look(root, where).usable
    assert look(f"file://{str(root).replace(' ', '%20')}", where).usable
    assert "is a URL of protocol s3, and this runner reads file" in told(look(URL, where))
    assert "dataset_protocols in config.toml" in told(look(URL, where))


def test_only_what_lies_below_an_allowed_folder_is_read(tmp_path: Path, box: Path) -> None:
    where = places.of(box)
    assert look(datasets.image_folder(tmp_path / "data" / "inside", 4), where).usable
    outside = datasets.image_folder(tmp_path / "data-too", 4)
    (tmp_path / "data" / "link").symlink_to(outside)
    for location in (outside, f"file://{outside}", tmp_path / "data" / ".." / "data-too", tmp_path / "data" / "link"):
        message = told(look(location, where))
        assert f"{location} lies outside the folders of this runner's datasets ({tmp_path / 'data'})" in message
        assert f"dataset_roots in {box / 'config.toml'}" in message
    with pytest.raises(DatasetFailure, match="lies outside the folders"):
        load(str(outside), 8, 0.2, 0, lambda: False, places=where)


def test_links_lead_no_further_than_the_allowed_folders(tmp_path: Path, box: Path) -> None:
    where = places.of(box)
    root = datasets.image_folder(tmp_path / "data" / "inside", 100)
    secret = datasets.image_folder(tmp_path / "secret", 4)
    (root / "cat" / "folder").symlink_to(secret)
    (root / "cat" / "secret.png").symlink_to(secret / "cat" / "000.png")
    (root / "cat" / "twin.png").symlink_to(root / "cat" / "000.png")
    report = look(root, where)
    assert (report.usable, report.images) == (True, 101), "a link within the folder is followed"
    assert sorted(problem.path for problem in report.problems) == ["cat/folder", "cat/secret.png"]
    assert "leads out of the folders that this runner may read" in report.problems[0].message

    listed = datasets.coco(tmp_path / "data" / "coco", 100)
    (listed / "007.png").unlink()
    (listed / "007.png").symlink_to(secret / "cat" / "000.png")
    labels = datasets.yolo(tmp_path / "data" / "yolo", 100)
    (labels / "labels" / "007.txt").unlink()
    (labels / "labels" / "007.txt").symlink_to(secret / "cat" / "000.png")
    coco = check(str(listed), lambda: False, training_pb2.DATASET_FORMAT_COCO, where)
    yolo = check(str(labels), lambda: False, training_pb2.DATASET_FORMAT_YOLO, where)
    assert [problem.message for problem in coco.problems] == ["007.png is not a regular file"]
    assert "labels/007.txt leads out of the folders" in yolo.problems[0].message


def test_the_owner_says_at_install_what_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TETHER_RUNNER_KEY", "tk_" + "k" * 43)
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "state"
    command = ["install", "--server", "127.0.0.1:1", "--simulate-gpus", "NVIDIA A10G:1", "--no-service"]
    command += ["--state-dir", str(state), "--dataset-root", "/data", "--dataset-root", "more"]
    refused = CliRunner().invoke(app, [*command, "--dataset-protocol", "S3://"])
    assert "'S3://' is not a protocol; write for example file, s3 or https" in str(refused.exception)
    done = CliRunner().invoke(app, [*command, "--dataset-protocol", "s3"])
    assert done.exit_code == 0, done.output
    found = places.of(state)
    assert found.roots == ("/data", str(tmp_path / "more"))
    assert found.protocols == ("file", "s3")
    assert found.cache == state / "datasets"


def test_a_damaged_setting_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'data' is not an absolute path; write for example /data"):
        BoxConfig(name="box", server="127.0.0.1:1", dataset_roots=("data",))
    with pytest.raises(ValueError, match="'s3://' is not a protocol"):
        BoxConfig(name="box", server="127.0.0.1:1", dataset_protocols=("s3://",))


def test_a_url_is_fetched_once_and_again_only_where_it_changes(tmp_path: Path, box: Path, bucket: Bucket) -> None:
    where = places.of(box)
    report = look(URL, where)
    assert report.usable
    assert report.fingerprint == look(tmp_path / "remote" / "digits", Places(tmp_path)).fingerprint
    assert len(bucket.read) == 20
    lines: list[str] = []
    loaded = load(URL, 8, 0.2, 0, lambda: False, places=where, say=lines.append)
    assert len(loaded.train) + len(loaded.validation) == 20
    assert (len(bucket.read), lines) == (20, []), "nothing is fetched again"

    (before,) = fetched(where)
    datasets.picture(bucket.root / "digits" / "cat" / "000.png", seed=999)
    (bucket.root / "digits" / "dog" / "001.png").unlink()
    assert look(URL, where).images == 19
    assert bucket.read[20:] == ["digits/cat/000.png"], "only what has changed"
    # The training of before goes on reading what it began with.
    assert before in fetched(where)
    assert (before / "files" / "dog" / "001.png").exists()


def test_a_stopped_fetch_goes_on_with_what_is_missing(box: Path, bucket: Bucket) -> None:
    where = places.of(box)
    lines: list[str] = []

    def whole() -> set[str]:
        return {path.name for path in where.cache.rglob("*.png")}

    bucket.let_through(5)
    with pytest.raises(Stopped):
        load(URL, 8, 0.2, 0, lambda: len(whole()) == 5, places=where, say=lines.append)
    assert lines[0].startswith("fetching the dataset: 0 of 20 files")
    report = check(URL, lambda: True, places=where)
    assert told(report).startswith(f"{URL} could not be fetched in time")
    kept = whole()
    assert len(kept) == 5
    bucket.let_all()
    asked = len(bucket.read)
    assert len(load(URL, 8, 0.2, 0, lambda: False, places=where).train) == 16
    assert kept.isdisjoint(key.rpartition("/")[2] for key in bucket.read[asked:])


@pytest.mark.slow
def test_two_that_want_the_same_fetch_it_once(box: Path, bucket: Bucket) -> None:
    where = places.of(box)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(look(URL, where).images), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [20, 20]
    assert len(bucket.read) == 20


def test_what_cannot_be_fetched_is_one_sentence(box: Path, bucket: Bucket) -> None:
    where = places.of(box)
    assert told(look("s3://bucket/nothing", where)).startswith("there is nothing at s3://bucket/nothing")
    assert "joins several protocols" in told(look("s3://bucket/x::file:///etc", where))
    small = Places(where.cache, protocols=("s3",), cache_bytes=100, config="config.toml")
    message = told(look(URL, small))
    assert "above the limit of 100 B of dataset_cache_bytes in config.toml; raise it" in message
    unknown = Places(where.cache, protocols=("nosuch",))
    assert told(look("nosuch://x", unknown)).startswith("nosuch://x cannot be read (ValueError: Protocol not known")


def test_the_owner_sees_what_fetched_datasets_take_and_can_remove_them(
    box: Path, bucket: Bucket, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "runner_agent.trainer.check", "--state-dir", box, "--output", tmp_path / "report"]
    subprocess.run([*command, URL], check=True, timeout=60)
    files_bytes = sum(path.stat().st_size for path in (bucket.root / "digits").rglob("*.png"))
    (found,) = dataset_cache.listed(StateFolder(box).datasets)
    assert (found.url, found.held) == (URL, False)
    assert found.bytes >= files_bytes
    assert disk.use(StateFolder(box)).dataset_bytes >= files_bytes
    runner = CliRunner()
    for option in ("--dry-run", "--yes"):
        shown = runner.invoke(app, ["prune", "--datasets", option, "--state-dir", str(box)])
        assert (shown.exit_code, URL in shown.output) == (0, True), shown.output
    assert dataset_cache.listed(StateFolder(box).datasets) == []


@pytest.mark.slow
def test_what_was_used_longest_ago_makes_room(tmp_path: Path, box: Path, bucket: Bucket) -> None:
    datasets.image_folder(bucket.root / "other", 20)
    size_bytes = sum(path.stat().st_size for path in (bucket.root / "other").rglob("*.png"))
    folder = StateFolder(box)
    folder.save(folder.load().model_copy(update={"dataset_cache_bytes": size_bytes * 3 // 2}))
    # In a process of its own, whose end gives the folder free.
    command = [sys.executable, "-m", "runner_agent.trainer.check", "--state-dir", box, "--output", tmp_path / "report"]
    subprocess.run([*command, URL], check=True, timeout=60)
    (old,) = fetched(places.of(box))
    assert look("s3://bucket/other", places.of(box)).usable
    assert old not in fetched(places.of(box))
    # What is being used stays, and what would need its room is refused.
    assert "and the box has room for" in told(look(URL, places.of(box)))
