"""Exports: asked for by people, handed to a box that is connected, level-triggered."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import structlog

from protos.metrics.v1 import artifact_pb2 as pb
from services.eventlog.requests import answered, first_answer, keep_answer
from services.ids import new_id
from services.metrics.artifacts_claims import CLAIM_MS, Waiting, takers
from services.metrics.artifacts_rows import CHECKPOINT, PENDING, READY, read_artifact
from services.metrics.artifacts_saved import Checkpoints, Saved
from services.postgres import LOST, Connection, Record
from services.rpc.credentials import Principal
from services.rpc.errors import InvalidField, NotFound, Unavailable
from services.rpc.kernel import Kernel
from services.rpc.requests import identity_of
from services.rpc.shell import KEEP_ALIVE_S, RECHECK_S

_log = structlog.get_logger()

# Without a hint (another replica was asked) waiting exports are looked for this often.
_LOOK_S = 2.0
_MOST_AT_ONCE = 500
_TRIES = 3
_NAMES = {pb.ARTIFACT_KIND_ONNX: "{}.onnx", pb.ARTIFACT_KIND_SAFETENSORS: "{}-weights.safetensors"}


@dataclass
class _Box:
    """One stream of a box."""

    workspace_id: str
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    orders: list[pb.ExportOnBox] = field(default_factory=list)


class Exports:
    """Run `run` in every replica: each hands out what its own boxes can make."""

    def __init__(self, kernel: Kernel, checkpoints: Checkpoints) -> None:
        self._kernel, self._pool, self._checkpoints = kernel, kernel.pool, checkpoints
        self._boxes: dict[str, _Box] = {}
        self._woken = asyncio.Event()

    async def ask(self, request: pb.ExportModelRequest, principal: Principal) -> Record:
        """The artifact's row. Raises InvalidField, NotFound, RequestIdReused, Unavailable."""
        if request.kind not in _NAMES:
            raise InvalidField("kind", request.kind, "an export is ONNX or SAFETENSORS")
        identity = identity_of(request, request.request_id)
        if identity is not None and (first := await answered(self._pool, identity)) is not None:
            return await self._row_of(first)
        saved = await self._checkpoints.find(request.job_id, request.checkpoint)
        if saved is None:
            what = request.checkpoint or f"of {request.job_id}"
            raise NotFound("checkpoint", what, "`tether jobs checkpoints JOB` shows those that there are")
        async with self._pool.acquire() as connection, connection.transaction():
            first = await first_answer(connection, identity) if identity is not None else None
            if first is None:
                row = await self._make(connection, request, saved, principal.workspace_id)
                answer = pb.ExportModelResponse(artifact=pb.Artifact(artifact_id=row["artifact_id"]))
                first = answer.SerializeToString()
                if identity is not None:
                    await keep_answer(connection, identity, first)
        self._woken.set()
        return await self._row_of(first)

    async def _row_of(self, first: bytes) -> Record:
        """What the first answer told, as it is now."""
        row = await read_artifact(self._pool, pb.ExportModelResponse.FromString(first).artifact.artifact_id)
        assert row is not None  # rows stay
        return row

    async def _make(
        self, connection: Connection, request: pb.ExportModelRequest, saved: Saved, workspace_id: str
    ) -> Record:
        for _ in range(_TRIES):
            await connection.execute(
                "insert into metrics.artifacts (artifact_id, workspace_id, job_id, attempt_id, kind, name, message, "
                "step, created_at_ms, checkpoint) "
                "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing",
                new_id("af"),
                workspace_id,
                request.job_id,
                saved.attempt_id,
                request.kind,
                _NAMES[request.kind].format(PurePosixPath(saved.name).stem),
                "waits for a box that has the checkpoint",
                saved.step,
                self._kernel.clock.now_ms(),
                saved.name,
            )
            if (row := await _same(connection, saved, request.kind)) is not None:
                return row
            # The one that was in the way has failed meanwhile.
        raise Unavailable("the same export has just failed; ask again")

    async def watch(self, principal: Principal) -> AsyncIterator[pb.WatchExportsResponse]:
        """What this box is to make, each once, until cancelled. Raises BadCredentials when its key is withdrawn."""
        runner, clock = principal.subject_id, self._kernel.clock
        box = self._boxes[runner] = _Box(principal.workspace_id)
        self._woken.set()
        told: set[str] = set()
        said_at = clock.monotonic()
        try:
            while True:
                self._kernel.shell.check_still_valid(principal)
                new = [one for one in box.orders if one.artifact_id not in told]
                box.changed.clear()
                if new or clock.monotonic() - said_at >= KEEP_ALIVE_S:
                    yield pb.WatchExportsResponse(exports=new)
                    said_at = clock.monotonic()
                # What is over is forgotten.
                told = {one.artifact_id for one in box.orders}
                try:
                    async with asyncio.timeout(RECHECK_S):
                        await box.changed.wait()
                except TimeoutError:
                    continue
        finally:
            if self._boxes.get(runner) is box:
                del self._boxes[runner]

    async def run(self) -> None:
        """Hand out until cancelled."""
        while True:
            self._woken.clear()
            if self._boxes:
                try:
                    await self._hand_out()
                except LOST as error:
                    _log.info("exports wait for PostgreSQL", error=str(error))
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _hand_out(self) -> None:
        boxes = {runner: box.workspace_id for runner, box in self._boxes.items()}
        now_ms = self._kernel.clock.now_ms()
        rows = {row["artifact_id"]: row for row in await self._waiting(boxes, now_ms)}
        orders: dict[str, list[pb.ExportOnBox]] = {runner: [] for runner in boxes}
        for artifact_id, runner in takers([_waiting(row) for row in rows.values()], boxes, now_ms).items():
            row = rows[artifact_id]
            if await self._claim(row, runner, now_ms):
                orders[runner].append(_order(row))
        for runner, found in orders.items():
            box = self._boxes.get(runner)
            if box is not None and found != box.orders:
                box.orders = found
                box.changed.set()

    async def _claim(self, row: Record, runner: str, now_ms: int) -> bool:
        """False where a box of another replica was quicker."""
        done: str = await self._pool.execute(
            "update metrics.artifacts set claimed_by = $2, claimed_until_ms = $3, "
            "message = case when claimed_by = $2 then message else 'a box makes it' end "
            "where artifact_id = $1 and state = $4 and claimed_by = $5",
            row["artifact_id"],
            runner,
            now_ms + CLAIM_MS,
            PENDING,
            row["claimed_by"],
        )
        return done == "UPDATE 1"

    async def _waiting(self, boxes: Mapping[str, str], now_ms: int) -> list[Record]:
        """Those that one of the boxes can make or makes (as `takers` decides it), oldest first.

        What no box here can make may wait for days, and must not keep the others waiting.
        """
        return await self._pool.fetch(
            "select a.*, t.runner_id as origin, s.sha256 as checkpoint_sha256, c.artifact_id as checkpoint_artifact_id "
            "from metrics.artifacts a join metrics.attempts t using (attempt_id) "
            "join metrics.saved_checkpoints s on s.attempt_id = a.attempt_id and s.name = a.checkpoint "
            "left join metrics.artifacts c on c.kind = $1 and c.attempt_id = a.attempt_id "
            "and c.name = a.checkpoint and c.state = $2 "
            "where a.state = $3 and a.kind <> 1 and a.workspace_id = any($4::text[]) "
            "and (a.claimed_by = any($5::text[]) or ((a.claimed_by = '' or a.claimed_until_ms <= $6) "
            "and (t.runner_id = any($5) or c.artifact_id is not null))) "
            "order by a.created_at_ms limit $7",
            CHECKPOINT,
            READY,
            PENDING,
            sorted(set(boxes.values())),
            list(boxes),
            now_ms,
            _MOST_AT_ONCE,
        )


async def _same(connection: Connection, saved: Saved, kind: int) -> Record | None:
    """The export of this checkpoint that is made or being made; the one just asked for where there was none."""
    return await connection.fetchrow(
        "select * from metrics.artifacts where attempt_id = $1 and checkpoint = $2 and kind = $3 "
        "and state = any($4::smallint[])",
        saved.attempt_id,
        saved.name,
        kind,
        [PENDING, READY],
    )


def _waiting(row: Record) -> Waiting:
    return Waiting(
        row["artifact_id"],
        row["workspace_id"],
        row["origin"],
        row["checkpoint_artifact_id"] is not None,
        row["created_at_ms"],
        row["claimed_by"],
        row["claimed_until_ms"],
    )


def _order(row: Record) -> pb.ExportOnBox:
    return pb.ExportOnBox(
        artifact_id=row["artifact_id"],
        job_id=row["job_id"],
        attempt_id=row["attempt_id"],
        checkpoint=row["checkpoint"],
        sha256=row["checkpoint_sha256"],
        checkpoint_artifact_id=row["checkpoint_artifact_id"] or "",
        kind=row["kind"],
    )
