"""pg_dump and pg_restore of the wheel, as streams of bytes."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from deploy.local.errors import LocalError
from deploy.local.postgres_programs import wheel_programs

_CHUNK_BYTES = 1 << 20
_LAST_WORDS_BYTES = 16_384


async def dump(url: str, snapshot: str) -> AsyncIterator[bytes]:
    """The database as of an exported snapshot. Raises LocalError with pg_dump's last words where it fails."""
    arguments = ("--format=custom", "--compress=1", f"--snapshot={snapshot}")
    async with _program("pg_dump", url, arguments, reads=False) as (process, said):
        assert process.stdout is not None
        while chunk := await process.stdout.read(_CHUNK_BYTES):
            yield chunk
        await _finish("pg_dump", process, said)


async def restore(url: str, chunks: Iterator[bytes]) -> None:
    """Fill an empty database in one transaction. Raises LocalError with pg_restore's last words where it fails."""
    arguments = ("--exit-on-error", "--single-transaction")
    async with _program("pg_restore", url, arguments, reads=True) as (process, said):
        assert process.stdin is not None
        # Why it stopped reading is told by its last words.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for chunk in chunks:
                process.stdin.write(chunk)
                await process.stdin.drain()
        process.stdin.close()
        await _finish("pg_restore", process, said)


@asynccontextmanager
async def _program(
    name: str, url: str, arguments: tuple[str, ...], reads: bool
) -> AsyncIterator[tuple[asyncio.subprocess.Process, "asyncio.Task[bytes]"]]:
    parts = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        str(wheel_programs() / name),
        *arguments,
        "--no-password",
        f"--host={parts.hostname}",
        f"--port={parts.port}",
        f"--username={parts.username}",
        f"--dbname={parts.path.lstrip('/')}",
        # The password stands in no command line.
        env={**os.environ, "PGPASSWORD": parts.password or "", "LC_ALL": "C"},
        stdin=asyncio.subprocess.PIPE if reads else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL if reads else asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = asyncio.create_task(_last_words(process.stderr))
    try:
        yield process, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await said


async def _last_words(stream: asyncio.StreamReader) -> bytes:
    said = b""
    while chunk := await stream.read(_CHUNK_BYTES):
        said = (said + chunk)[-_LAST_WORDS_BYTES:]
    return said


async def _finish(name: str, process: asyncio.subprocess.Process, said: "asyncio.Task[bytes]") -> None:
    words = (await said).decode("utf-8", "replace").strip().splitlines()
    if await process.wait() != 0:
        raise LocalError(f"{name} failed: " + " / ".join(words[-3:]))
