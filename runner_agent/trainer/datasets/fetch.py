"""Fetches a dataset from a URL: `python -m runner_agent.trainer.datasets.fetch URL --cache DIR --limit-bytes N`.

Below the cache each state of a URL has a folder, named after the URL and the names, sizes and versions of its files:
a change there makes another folder, and never changes one that is being trained on. What is already here is not
fetched again, file by file, so an interrupted fetch goes on where it was. Says JSON lines: {"progress": …}, and at the
end {"folder": …} or {"error": …}.
"""

import argparse
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from runner_agent import clock, dataset_cache, files
from runner_agent.processes import die_with_parent
from runner_agent.trainer.datasets.listing import MAX_IMAGES, printable

_THREADS = 8
_BLOCK_BYTES = 1024 * 1024
_SAY_INTERVAL_NS = 5_000_000_000
# Left on the disk for everything else where no limit is set: a tenth.
_KEPT_FREE = 10
# What storages call the version of a file, the surest first.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "created")


class FetchError(Exception):
    """What cannot be fetched. The text is a sentence."""


@dataclass(frozen=True)
class Remote:
    """A file of the dataset where it comes from."""

    # Of fsspec, and relative to the dataset's location.
    source: str
    path: str
    size_bytes: int
    # Size and version: the same as long as the content is.
    identity: str


def fetch(url: str, cache: Path, limit_bytes: int, config: str) -> Path:
    """The folder of the cache that holds the dataset, whole. Raises FetchError, OSError and what fsspec raises."""
    filesystem, base = fsspec.core.url_to_fs(url)
    remotes = _list(url, filesystem, base)
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = hashlib.sha256(url.encode()).hexdigest()[:16]
    with _locked(cache / f"{place}.lock", "another training or check fetches the same dataset; waiting for it"):
        state = hashlib.sha256(json.dumps([[one.path, one.identity] for one in remotes]).encode()).hexdigest()[:16]
        folder = cache / f"{place}-{state}"
        earlier = [path for path in cache.glob(f"{place}-*") if path != folder]
        (folder / "files").mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / dataset_cache.LOCK).touch(mode=0o600)
        # Until this process ends: nobody who makes room takes it away.
        dataset_cache.hold(folder)
        missing = _take_over(url, folder, remotes, earlier)
        needed_bytes = sum(one.size_bytes for one in missing)
        total_bytes = sum(one.size_bytes for one in remotes)
        _make_room(url, cache, folder, needed_bytes, total_bytes, limit_bytes, config)
        _fetch_all(filesystem, folder, missing, len(remotes), total_bytes - needed_bytes, total_bytes)
        for path in earlier:
            # One that a training reads goes the next time.
            dataset_cache.remove(path)
        os.utime(folder)
    return folder


def _list(url: str, filesystem: Any, base: str) -> list[Remote]:
    found: Mapping[str, Mapping[str, Any]] = filesystem.find(base, detail=True)
    if not found:
        raise FetchError(f"there is nothing at {url}, or this runner may not see it; check the URL and its permissions")
    if len(found) > MAX_IMAGES:
        raise FetchError(f"there are more than {MAX_IMAGES:,} files at {url}; split the dataset")
    prefix = base.rstrip("/") + "/"
    remotes = []
    for source, about in found.items():
        path = source.removeprefix(prefix)
        if path == source or path.startswith("/") or not path or {"..", "."} & set(path.split("/")) or "\0" in path:
            raise FetchError(f"{url} lists {printable(source)}, which does not lie below it; fetch it by other means")
        if about.get("size") is None or not any(about.get(name) for name in _VERSIONS):
            # Some protocols list names and tell the rest one by one.
            about = filesystem.info(source)
        size_bytes = int(about.get("size") or 0)
        version = next((str(about[name]) for name in _VERSIONS if about.get(name)), "")
        remotes.append(Remote(source, path, size_bytes, f"{size_bytes}/{version}"))
    return sorted(remotes, key=lambda one: one.path)


@contextlib.contextmanager
def _locked(path: Path, while_waiting: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(progress=while_waiting)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _take_over(url: str, folder: Path, remotes: list[Remote], earlier: list[Path]) -> list[Remote]:
    """Link what an earlier state of the same URL has; returns what is still to be fetched."""
    content = folder / "files"
    index = {"url": url, "files": {one.path: one.identity for one in remotes}}
    files.replace(folder / dataset_cache.INDEX, json.dumps(index).encode())
    known: dict[tuple[str, str], Path] = {}
    for path in earlier:
        for name, identity in (files.read_json(path / dataset_cache.INDEX) or {}).get("files", {}).items():
            known[name, str(identity)] = path / "files" / name
    missing = []
    for one in remotes:
        target = content / one.path
        if _is_whole(target, one):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        source = known.get((one.path, one.identity))
        if source is None or not _is_whole(source, one):
            missing.append(one)
            continue
        try:
            os.link(source, target)
        except OSError:
            missing.append(one)
    return missing


def _is_whole(path: Path, one: Remote) -> bool:
    """A file gets its name only once it is whole; a power cut may have shortened it since."""
    try:
        return path.stat().st_size == one.size_bytes
    except OSError:
        return False


def _make_room(
    url: str, cache: Path, folder: Path, needed_bytes: int, total_bytes: int, limit_bytes: int, config: str
) -> None:
    """Remove the datasets that were used longest ago until this one fits. Raises FetchError where it cannot.

    Then none is removed, unless another process takes the room meanwhile.
    """
    wanted = f"{url} has {_size(total_bytes)}"
    if limit_bytes and total_bytes > limit_bytes:
        raise FetchError(
            f"{wanted}, above the limit of {_size(limit_bytes)} of dataset_cache_bytes in {config}; raise it"
        )
    sizes = {path: dataset_cache.bytes_of(path) for path in dataset_cache.folders(cache) if path != folder}
    oldest_first = [path for path in sizes if not dataset_cache.held(path)]

    def room_bytes(freed_bytes: int = 0) -> int:
        disk = shutil.disk_usage(cache)
        found = disk.free + freed_bytes - disk.total // _KEPT_FREE
        if limit_bytes:
            found = min(found, limit_bytes - (sum(sizes.values()) - freed_bytes) - (total_bytes - needed_bytes))
        return max(found, 0)

    while needed_bytes > room_bytes():
        most_bytes = room_bytes(sum(sizes[path] for path in oldest_first))
        if not oldest_first or needed_bytes > most_bytes:
            missing = f"of which {_size(needed_bytes)} are missing here"
            raise FetchError(
                f"{wanted}, {missing}, and the box has room for {_size(most_bytes)}; make some, or see {config}"
            )
        path = oldest_first.pop(0)
        if dataset_cache.remove(path):
            del sizes[path]


def _fetch_all(
    filesystem: Any, folder: Path, missing: list[Remote], count: int, done_bytes: int, total_bytes: int
) -> None:
    """Raises what the first file that fails raises."""
    done, said_ns = count - len(missing), 0
    # On other protocols than fsspec's asynchronous ones, too, waiting is what takes the time.
    pool = ThreadPoolExecutor(_THREADS)
    waiting = iter(missing)
    running: dict[Future[None], Remote] = {}
    try:
        while True:
            for one in waiting:
                running[pool.submit(_fetch_one, filesystem, folder, one)] = one
                if len(running) >= 2 * _THREADS:
                    break
            if not running:
                return
            if clock.boottime_ns() - said_ns >= _SAY_INTERVAL_NS:
                said_ns = clock.boottime_ns()
                bytes_ = f"{_size(done_bytes)} of {_size(total_bytes)}"
                _say(progress=f"fetching the dataset: {done:,} of {count:,} files, {bytes_}")
            for future in wait(running, timeout=1.0, return_when=FIRST_COMPLETED).done:
                done_bytes += running.pop(future).size_bytes
                done += 1
                future.result()
    finally:
        # Not waiting for what may hang: this process ends after it has told why.
        pool.shutdown(wait=False, cancel_futures=True)


def _fetch_one(filesystem: Any, folder: Path, one: Remote) -> None:
    target = folder / "files" / one.path
    part = folder / f"part-{hashlib.sha256(one.path.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"
    with filesystem.open(one.source, "rb") as source, part.open("wb") as destination:
        shutil.copyfileobj(source, destination, _BLOCK_BYTES)
        # Otherwise a power cut could leave the name without the content.
        destination.flush()
        os.fsync(destination.fileno())
    if part.stat().st_size != one.size_bytes:
        size, told = part.stat().st_size, one.size_bytes
        raise FetchError(
            f"{printable(one.path)} came with {size:,} bytes and not {told:,}; it may have changed, try again"
        )
    part.replace(target)


def _size(number: int) -> str:
    value, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _say(**told: str) -> None:
    print(json.dumps(told), flush=True)


def _explained(url: str, error: Exception) -> str:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, FetchError):
        return text
    if isinstance(error, FileNotFoundError):
        return f"there is nothing at {url}, or this runner may not see it; check the URL and its permissions"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the box's disk became full while {url} was fetched; make room, see `tether-runner disk`"
    if isinstance(error, ImportError):
        return f"{url} cannot be read without another package on the box ({text}); install it beside the runner"
    return f"{url} cannot be read ({type(error).__name__}: {text}); check the URL, and the box's credentials for it"


def main() -> int:
    """Exit code 0 once the folder is told, 1 where an error is told."""
    parser = argparse.ArgumentParser(prog="runner_agent.trainer.datasets.fetch", description="Fetch a dataset.")
    parser.add_argument("url")
    parser.add_argument("--cache", type=Path, required=True, help="folder that fetched datasets lie in")
    parser.add_argument("--limit-bytes", type=int, default=0, help="what all of them may take; 0 goes by the disk")
    parser.add_argument("--config", default="config.toml", help="named where the limit is told")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="the process with which this one ends")
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    try:
        folder = fetch(arguments.url, arguments.cache, arguments.limit_bytes, arguments.config)
    except Exception as error:  # storages raise nearly anything
        _say(error=_explained(arguments.url, error))
        return 1
    _say(folder=str(folder))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Not waiting for transfers that are of no use any more.
    os._exit(code)
