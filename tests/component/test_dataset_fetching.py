"""What is fetched from a URL is read wherever its cache lies, makes no more room than it needs, and is whole."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from protos.training.v1 import training_pb2
from runner_agent import dataset_cache
from runner_agent.trainer.check import check
from runner_agent.trainer.datasets.fetch import FetchError, fetch
from runner_agent.trainer.datasets.loading import load
from runner_agent.trainer.datasets.places import Places
from tests.support import datasets

# fsspec's name for this machine's own files: a URL whose fetching needs no network.
LOCAL = "local"


@pytest.mark.parametrize(
    ("format_", "write"),
    [
        (training_pb2.DATASET_FORMAT_COCO, datasets.coco),
        (training_pb2.DATASET_FORMAT_YOLO, datasets.yolo),
        (training_pb2.DATASET_FORMAT_MASK_FOLDER, datasets.masks),
    ],
)
def test_what_was_fetched_is_read_where_only_some_folders_may_be(
    tmp_path: Path, format_: int, write: Callable[[Path, int], Path]
) -> None:
    remote = write(tmp_path / "remote", 10)
    (tmp_path / "data").mkdir()
    where = Places(tmp_path / "cache", (str(tmp_path / "data"),), ("file", LOCAL))
    report = check(f"{LOCAL}://{remote}", lambda: False, format_, where)
    assert (report.usable, report.images, list(report.problems)) == (True, 10, [])
    loaded = load(f"{LOCAL}://{remote}", 8, 0.2, 0, lambda: False, format_=format_, places=where)
    assert len(loaded.train) + len(loaded.validation) == 10
    # The roots hold for what is fetched as they did for the location: another dataset in the cache stays closed.
    (fetched,) = dataset_cache.folders(where.cache)
    allowed = where.allowed(fetched / "files")
    assert allowed is not None
    assert allowed(str(fetched / "files" / "new"))
    assert not any(allowed(str(path)) for path in (where.cache / "other" / "files", remote, fetched / "files-too"))


class Cache:
    """A cache, and a remote dataset of 4,000 bytes that may be fetched to it."""

    def __init__(self, root: Path) -> None:
        self.folder, self.remote = root / "cache", root / "remote"
        self.remote.mkdir()
        for number in range(4):
            (self.remote / str(number)).write_bytes(bytes([number]) * 1000)

    def add(self, name: str, bytes_: int, used_at: int) -> Path:
        """A dataset that was fetched before."""
        folder = self.folder / name
        (folder / "files").mkdir(parents=True)
        (folder / "files" / "one").write_bytes(b"x" * bytes_)
        os.utime(folder, (used_at, used_at))
        return folder

    def fetch(self, limit_bytes: int = 0) -> Path:
        return fetch(f"{LOCAL}://{self.remote}", self.folder, limit_bytes, "config.toml")

    def left(self) -> set[str]:
        return {path.name for path in dataset_cache.folders(self.folder) if len(path.name) == 1}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Read by another training."""
    with closing(os.fdopen(os.open(folder / dataset_cache.LOCK, os.O_RDWR | os.O_CREAT), "r+")) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def test_a_dataset_that_can_never_fit_takes_no_other_ones_place(cache: Cache) -> None:
    for name, bytes_ in (("a", 500), ("b", 1500)):
        cache.add(name, bytes_, used_at=1)
    with pytest.raises(FetchError, match=r"has 3.9 KiB, above the limit of 3.8 KiB of dataset_cache_bytes"):
        cache.fetch(3_900)
    with held(cache.folder / "b"), pytest.raises(FetchError, match=r"and the box has room for 3.4 KiB"):
        cache.fetch(5_000)
    assert cache.left() == {"a", "b"}


def test_only_what_has_to_go_goes_and_each_dataset_is_measured_once(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for used_at, name in enumerate("abcde", 1):
        cache.add(name, 1000, used_at)
    measured: list[Path] = []
    bytes_of = dataset_cache.bytes_of

    def counting(path: Path) -> int:
        measured.append(path)
        return bytes_of(path)

    monkeypatch.setattr(dataset_cache, "bytes_of", counting)
    with held(cache.folder / "b"):
        folder = cache.fetch(6_500)
    assert cache.left() == {"b", "e"}, "the one that was used longest ago first, and none that is being used"
    assert len(list((folder / "files").iterdir())) == 4
    assert sorted(path.name for path in measured) == list("abcde")


def test_a_file_has_its_name_only_once_its_content_is_on_the_disk(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    for path in (cache.fetch() / "files").iterdir():
        assert synced[path.stat().st_ino] == 1000


def test_a_file_that_a_power_cut_has_shortened_is_fetched_again(cache: Cache) -> None:
    folder = cache.fetch()
    for name in ("1", "2"):
        os.truncate(folder / "files" / name, 10)
    assert cache.fetch() == folder
    assert (folder / "files" / "1").read_bytes() == b"\1" * 1000
    # Nor does another state of the dataset begin with one.
    os.truncate(folder / "files" / "2", 0)
    (cache.remote / "3").write_bytes(b"changed")
    later = cache.fetch()
    assert later != folder
    assert {path.name: path.read_bytes() for path in (later / "files").iterdir()} == {
        path.name: path.read_bytes() for path in cache.remote.iterdir()
    }
    assert (later / "files" / "1").samefile(folder / "files" / "1"), "what is whole is not fetched again"
    assert set(json.loads((later / dataset_cache.INDEX).read_text())["files"]) == set("0123")
