"""Where artifacts are kept: a folder, or any URL that fsspec knows. Its calls block, so they run in threads."""

import asyncio
import contextlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import grpc
from fsspec.implementations.local import LocalFileSystem

from protos.common.v1 import errors_pb2
from services.rpc.errors import Refused, Unavailable
from services.rpc.settings import StartRefused

CHUNK_BYTES = 256 << 10
# Files that are read or written at one moment; what comes after waits.
_THREADS = 8

T = TypeVar("T")


class StoreFailed(Unavailable):
    """The artifact store did not do what it was asked; it may later."""

    def __init__(self, what: str, error: BaseException) -> None:
        self.cause = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())[:200]
        super().__init__(f"the platform's artifact store does not {what} at the moment ({self.cause}); try again later")


class FileLost(Refused):
    """What the platform has is in its store; a restored platform may have another one, or one without the file."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, key: str) -> None:
        name = key.rsplit("/", 1)[-1]
        super().__init__(
            f"the file of {name} is not in the platform's artifact store any more; put it back from a backup of the "
            "store, or take it from the box that made it, if that still has it",
            errors_pb2.NotFound(kind="file", id=key[:200]),
        )


class Store:
    """Files by key, `<workspace>/<job>/<artifact>/<name>`. `run` does blocking work in the store's threads."""

    def __init__(self, url: str) -> None:
        """Raises StartRefused for an address that cannot be one."""
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise StartRefused(
                f"setting artifact_store: {url!r} cannot be used ({error}); write a folder or an fsspec URL, for "
                "example s3://bucket/folder, and install its package (`pip install 'tether[s3]'`)"
            ) from None
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="artifacts")

    def url(self, key: str) -> str:
        return str(self._fs.unstrip_protocol(self._path(key)))

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def soon(self, work: Callable[[], Any]) -> None:
        """Have it done without waiting for it."""
        self._threads.submit(work)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def put(self, file: Path, key: str) -> None:
        """Move a whole file into the store; under its name it is whole or not there. Raises StoreFailed."""
        await self._try("take the file", lambda: self._put(file, self._path(key), file.stat().st_size))

    async def remove(self, key: str) -> None:
        """A file that is not there is removed already. Raises StoreFailed."""
        await self._try("remove the file", lambda: self._remove(self._path(key)))

    async def read(self, key: str, offset: int) -> AsyncIterator[bytes]:
        """The file's bytes from `offset` on, in chunks of at most 256 KiB. Raises FileLost, StoreFailed."""
        opened = await self._give(key, lambda: self._open(self._path(key), offset))
        try:
            while chunk := await self._give(key, lambda: opened.read(CHUNK_BYTES)):
                yield chunk
        finally:
            self.soon(opened.close)

    async def _give(self, key: str, work: Callable[[], T]) -> T:
        try:
            return await self._try("give the file", work)
        except StoreFailed as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise FileLost(key) from error
            raise

    async def _try(self, what: str, work: Callable[[], T]) -> T:
        try:
            return await self.run(work)
        except Exception as error:  # each protocol has errors of its own
            raise StoreFailed(what, error) from error

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _put(self, file: Path, path: str, size_bytes: int) -> None:
        if self._local:
            _move(file, Path(path))
            return
        self._fs.put_file(str(file), path)
        found = self._fs.info(path)["size"]
        if found != size_bytes:
            raise OSError(f"it holds {found} of {size_bytes} bytes")
        file.unlink()

    def _open(self, path: str, offset: int) -> Any:
        opened = self._fs.open(path, "rb")
        opened.seek(offset)
        return opened

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(path)
        if self._local:
            # The folder was made for this one file.
            with contextlib.suppress(OSError):
                Path(path).parent.rmdir()


def _move(file: Path, target: Path) -> None:
    """By its name where both are on one file system, otherwise as a copy that gets its name when it is durable."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.stat().st_dev == target.parent.stat().st_dev:
        file.replace(target)
    else:
        copy = target.with_name(f".{uuid.uuid4().hex}")
        try:
            shutil.copyfile(file, copy)
            with copy.open("rb") as copied:
                os.fsync(copied.fileno())
            copy.replace(target)
        finally:
            copy.unlink(missing_ok=True)
        file.unlink()
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
