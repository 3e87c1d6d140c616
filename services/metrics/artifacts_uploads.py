"""Takes files from boxes: who may send what, where a broken upload goes on, and when a file counts as stored."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from protos.metrics.v1 import artifact_pb2 as pb
from services.clock import Clock
from services.eventlog.appender import Appender
from services.ids import new_id
from services.metrics.artifacts_partial import Closed, Damaged, Partial
from services.metrics.artifacts_rows import (
    CHECKPOINT,
    FAILED,
    PENDING,
    READY,
    REMOVED,
    append_stored,
    key_of,
    read_artifact,
    read_own,
)
from services.metrics.artifacts_saved import Checkpoints
from services.metrics.artifacts_store import Store, StoreFailed
from services.metrics.attempts import Register
from services.postgres import Pool, Record
from services.rpc.credentials import Principal
from services.rpc.errors import InvalidField, Refused, Unavailable
from services.rpc.shell import correlation_id

_log = structlog.get_logger()

# Plain file names; nothing that could lead out of a folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_CHUNK_BYTES = 1 << 20
_MAX_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """0: no limit."""

    artifact_bytes: int = 0
    workspace_bytes: int = 0


class NeverTaken(Exception):
    """The box may not send this file, now or later; the message is one sentence."""


class Superseded(Refused):
    """The newest stream of a file has it; an older one may be of a connection that is long dead."""

    code = grpc.StatusCode.ABORTED

    def __init__(self) -> None:
        super().__init__("another stream sends the same file now; this one has lost it")


class Upload:
    """One file that a stream sends. Made by `Uploads.open`."""

    def __init__(self, row: Record, partial: Partial, store: Store) -> None:
        self.row, self.partial, self._store = row, partial, store
        self.finishing: asyncio.Task[None] | None = None

    @property
    def stored(self) -> bool:
        """An earlier stream has brought it into the store."""
        return bool(self.row["state"] == READY)

    @property
    def offset(self) -> int:
        return int(self.row["bytes"]) if self.stored else self.partial.offset

    @property
    def complete(self) -> bool:
        return self.stored or self.partial.complete

    async def write(self, chunk: bytes) -> None:
        """Raises InvalidField, Superseded, StoreFailed."""
        if len(chunk) > MAX_CHUNK_BYTES:
            raise InvalidField("chunk", f"{len(chunk)} bytes", f"a chunk has at most {MAX_CHUNK_BYTES} bytes")
        if self.offset + len(chunk) > self.row["bytes"]:
            rule = f"the header says {self.row['bytes']} bytes, and this chunk begins at byte {self.offset}"
            raise InvalidField("chunk", f"{len(chunk)} bytes", rule)
        try:
            await self._store.run(lambda: self.partial.write(chunk))
        except Closed:
            raise Superseded from None
        except OSError as error:
            raise StoreFailed("take the file", error) from None


class Uploads:
    """`folder` keeps what is not whole yet."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        register: Register,
        checkpoints: Checkpoints,
        appender: Appender,
        store: Store,
        folder: Path,
        limits: UploadLimits,
    ) -> None:
        self._pool, self._clock, self._register, self._checkpoints = pool, clock, register, checkpoints
        self._appender, self._store, self._folder, self._limits = appender, store, folder, limits
        self._open: dict[str, Upload] = {}

    async def admit(self, header: pb.UploadHeader, principal: Principal) -> Record:
        """The row of the file. Raises NeverTaken, InvalidField, Unavailable."""
        if header.artifact_id:
            return await self._admit_export(header, principal)
        attempt = await self._register.attempt(header.attempt_id)
        if attempt is None or attempt.runner_id != principal.subject_id or attempt.job_id != header.job_id:
            shown = header.attempt_id[:60]
            raise NeverTaken(f"the attempt {shown!r} of job {header.job_id[:60]!r} is not this runner's")
        if header.kind != CHECKPOINT:
            raise InvalidField("kind", header.kind, "a file that nobody asked for is a checkpoint")
        _check_file(header)
        if await self._checkpoints.dropped(header.attempt_id, header.name):
            raise NeverTaken(f"the checkpoint {header.name} was dropped by the training's strategy meanwhile")
        row = await self._row_of_checkpoint(header, attempt.workspace_id)
        if row["state"] == REMOVED:
            raise NeverTaken(f"the checkpoint {header.name} was removed from the platform")
        return await self._sized(row, header)

    async def _row_of_checkpoint(self, header: pb.UploadHeader, workspace_id: str) -> Record:
        await self._pool.execute(
            "insert into metrics.artifacts (artifact_id, workspace_id, job_id, attempt_id, kind, name, message, step, "
            "created_at_ms) values ($1, $2, $3, $4, $5, $6, 'the box sends it', $7, $8) "
            "on conflict (attempt_id, name) where kind = 1 do nothing",
            new_id("af"),
            workspace_id,
            header.job_id,
            header.attempt_id,
            CHECKPOINT,
            header.name,
            header.step,
            self._clock.now_ms(),
        )
        row = await self._pool.fetchrow(
            "select * from metrics.artifacts where kind = $1 and attempt_id = $2 and name = $3",
            CHECKPOINT,
            header.attempt_id,
            header.name,
        )
        assert row is not None  # inserted above, and rows stay
        return row

    async def _admit_export(self, header: pb.UploadHeader, principal: Principal) -> Record:
        row = await read_own(self._pool, header.artifact_id, principal.workspace_id)
        if row["kind"] == CHECKPOINT or row["claimed_by"] != principal.subject_id:
            raise NeverTaken(f"the export {header.artifact_id} is not this runner's to make")
        if row["state"] not in (PENDING, READY):
            raise NeverTaken(f"the export {header.artifact_id} is over: {row['message']}")
        if header.bytes == 0:
            # It could not be made; the next message says why.
            return row
        _check_file(header)
        return await self._sized(row, header)

    async def _sized(self, row: Record, header: pb.UploadHeader) -> Record:
        """The row with the size and the digest that the header tells."""
        if row["state"] == READY:
            if row["sha256"] != header.sha256:
                raise NeverTaken(f"the platform has another file as {header.name} of this attempt already")
            return row
        try:
            await self._check_limits(header, row["workspace_id"], row["artifact_id"])
        except NeverTaken as error:
            # Whoever lists or waits for it sees why.
            await self.fail(row, str(error))
            raise
        found = await self._pool.fetchrow(
            "update metrics.artifacts set bytes = $2, sha256 = $3, step = $4, name = $5, state = $6, "
            "message = 'the box sends it' where artifact_id = $1 and state = any($7::smallint[]) returning *",
            row["artifact_id"],
            header.bytes,
            header.sha256,
            header.step,
            header.name,
            PENDING,
            # A checkpoint that was beyond a limit may be within it now.
            [PENDING, FAILED],
        )
        if found is None:
            raise Unavailable("the file has just been stored, or removed; ask again")
        return found

    async def _check_limits(self, header: pb.UploadHeader, workspace_id: str, artifact_id: str) -> None:
        limits = self._limits
        if limits.artifact_bytes and header.bytes > limits.artifact_bytes:
            raise NeverTaken(
                f"{header.name} has {header.bytes} bytes, above the limit of {limits.artifact_bytes} bytes for one "
                "artifact; it stays on its box (the platform's operator may raise TETHER_MAX_ARTIFACT_BYTES)"
            )
        if limits.workspace_bytes:
            stored: int = await self._pool.fetchval(
                "select coalesce(sum(bytes), 0)::bigint from metrics.artifacts where workspace_id = $1 and state = $2",
                workspace_id,
                READY,
            )
            others = [one.row for key, one in self._open.items() if key != artifact_id]
            stored += sum(row["bytes"] for row in others if row["workspace_id"] == workspace_id)
            if stored + header.bytes > limits.workspace_bytes:
                raise NeverTaken(
                    f"{header.name} has {header.bytes} bytes, and the workspace keeps {stored} of the "
                    f"{limits.workspace_bytes} bytes that it may; it stays on its box (the platform's operator may "
                    "raise TETHER_MAX_ARTIFACT_BYTES_PER_WORKSPACE)"
                )

    @asynccontextmanager
    async def open(self, row: Record) -> AsyncIterator[Upload]:
        """The file, from where it has come to. A stream that had it loses it. Raises StoreFailed, Unavailable."""
        artifact_id = row["artifact_id"]
        before = self._open.get(artifact_id)
        if before is not None:
            if before.finishing is not None:
                await asyncio.wait([before.finishing])
            await self._store.run(before.partial.close)
        # A file that is made anew, with another digest, begins anew.
        path = self._folder / f"{artifact_id}-{row['sha256'][:16]}.part"
        try:
            partial = await self._store.run(lambda: Partial(path, row["bytes"], row["sha256"]))
        except BlockingIOError:
            raise Unavailable("another replica of this service takes the same file; try again in a second") from None
        except OSError as error:
            raise StoreFailed("take the file", error) from None
        upload = Upload(row, partial, self._store)
        self._open[artifact_id] = upload
        try:
            # The one before may have stored it since the row was read.
            upload.row = await self.now(row)
            yield upload
        finally:
            if upload.finishing is None or upload.finishing.done():
                self._forget(upload)
            else:
                # The caller has gone away in the middle of it: until it is done nobody else may write the file.
                upload.finishing.add_done_callback(lambda _done: self._forget(upload))

    def _forget(self, upload: Upload) -> None:
        self._store.soon(upload.partial.close)
        if self._open.get(upload.row["artifact_id"]) is upload:
            del self._open[upload.row["artifact_id"]]

    async def finish(self, upload: Upload, principal: Principal) -> Record:
        """Check the whole file, store it and say so. Raises InvalidField, Superseded, StoreFailed, LogUnavailable."""
        row = await self.now(upload.row)
        if row["state"] == READY:
            await self._store.run(upload.partial.discard)
            return row
        try:
            await self._store.run(upload.partial.check)
        except Closed:
            raise Superseded from None
        except Damaged as error:
            rule = f"what came has {error.found}; it was thrown away, send the file again"
            raise InvalidField("sha256", upload.row["sha256"], rule) from None
        except OSError as error:
            raise StoreFailed("take the file", error) from None
        # A caller who goes away in the middle of it does not leave it half done.
        upload.finishing = asyncio.ensure_future(self._store_it(upload, principal.subject, correlation_id()))
        await asyncio.shield(upload.finishing)
        return await self.now(upload.row)

    async def _store_it(self, upload: Upload, actor: str, correlation: str) -> None:
        row = upload.row
        await self._store.put(upload.partial.path, key_of(row))
        await append_stored(self._appender, row, correlation, actor)
        _log.info("artifact stored", artifact=row["artifact_id"], job=row["job_id"], name=row["name"])
        if row["kind"] == CHECKPOINT and await self._checkpoints.dropped(row["attempt_id"], row["name"]):
            # The event that drops it came while the file was under way.
            await self._pool.execute(
                "update metrics.artifacts set dropped = true where artifact_id = $1", row["artifact_id"]
            )

    async def now(self, row: Record) -> Record:
        found = await read_artifact(self._pool, row["artifact_id"])
        assert found is not None  # rows stay
        return found

    async def fail(self, row: Record, message: str) -> Record:
        """What its box cannot make, or may not send."""
        sentence = " ".join(message.split())[:_MAX_MESSAGE] or "the box could not make it and does not say why"
        await self._pool.execute(
            "update metrics.artifacts set state = $2, message = $3 where artifact_id = $1 and state = $4",
            row["artifact_id"],
            FAILED,
            sentence,
            PENDING,
        )
        return await self.now(row)


def _check_file(header: pb.UploadHeader) -> None:
    """Raises NeverTaken for a name that is no plain one, InvalidField for the rest."""
    if not _NAME.fullmatch(header.name):
        raise NeverTaken(f"{header.name[:60]!r} is not a plain file name; it has letters, digits, `.`, `_` and `-`")
    if header.bytes < 1:
        raise InvalidField("bytes", header.bytes, "a file has at least one byte")
    if not _SHA256.fullmatch(header.sha256):
        raise InvalidField("sha256", header.sha256, "it has 64 hexadecimal digits in lower case")
