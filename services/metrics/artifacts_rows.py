"""The rows of the table `artifacts`, and what the log's events make of them."""

from collections.abc import Sequence

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.artifact_pb2 import ArtifactRemoved, ArtifactStored
from protos.metrics.v1 import artifact_pb2 as pb
from services.eventlog.append import Append, Conflict, StreamAppend
from services.eventlog.appender import Appender
from services.metrics.artifacts_store import Store
from services.postgres import Connection, Pool, Record
from services.rpc.errors import NotFound

PENDING, READY, FAILED = pb.ARTIFACT_STATE_PENDING, pb.ARTIFACT_STATE_READY, pb.ARTIFACT_STATE_FAILED
# Not told to anyone: the row of a file that the platform has given up.
REMOVED = 4
CHECKPOINT = pb.ARTIFACT_KIND_CHECKPOINT

STREAM = "artifact"
_MOST_LISTED = 10_000


def key_of(row: Record) -> str:
    return f"{row['workspace_id']}/{row['job_id']}/{row['artifact_id']}/{row['name']}"


def kind_name(kind: int) -> str:
    """As events tell it: `checkpoint`, `onnx`, `safetensors`."""
    return pb.ArtifactKind.Name(pb.ArtifactKind.ValueType(kind)).removeprefix("ARTIFACT_KIND_").lower()


def shown(row: Record, store: Store) -> pb.Artifact:
    ready = row["state"] == READY
    return pb.Artifact(
        artifact_id=row["artifact_id"],
        job_id=row["job_id"],
        attempt_id=row["attempt_id"],
        kind=row["kind"],
        name=row["name"],
        state=row["state"],
        message=row["message"],
        bytes=row["bytes"],
        sha256=row["sha256"],
        created_at_ms=row["created_at_ms"],
        checkpoint=row["checkpoint"],
        step=row["step"],
        location=store.url(key_of(row)) if ready else "",
    )


async def read_artifact(pool: Pool, artifact_id: str) -> Record | None:
    return await pool.fetchrow("select * from metrics.artifacts where artifact_id = $1", artifact_id)


async def read_own(pool: Pool, artifact_id: str, workspace_id: str) -> Record:
    """Raises NotFound unless it is in the workspace; an empty one means any."""
    row = await read_artifact(pool, artifact_id) if artifact_id.isprintable() else None
    if row is None or row["state"] == REMOVED or (workspace_id and row["workspace_id"] != workspace_id):
        raise NotFound("artifact", artifact_id, "`tether jobs artifacts JOB` shows those that there are")
    return row


async def list_artifacts(pool: Pool, job_id: str) -> Sequence[Record]:
    """Newest first."""
    return await pool.fetch(
        "select * from metrics.artifacts where job_id = $1 and state <> $2 "
        "order by created_at_ms desc, artifact_id limit $3",
        job_id,
        REMOVED,
        _MOST_LISTED,
    )


async def project(connection: Connection, records: Sequence[EventRecord]) -> None:
    """Take our own events into the rows, in the transaction that appends them."""
    for record in records:
        if record.type == "ArtifactStored":
            event = ArtifactStored.FromString(record.payload.value)
            await connection.execute(
                "update metrics.artifacts set state = $2, message = '', bytes = $3, sha256 = $4, step = $5 "
                "where artifact_id = $1",
                record.stream_id,
                READY,
                event.bytes,
                event.sha256,
                event.step,
            )
        elif record.type == "ArtifactRemoved":
            await connection.execute(
                "update metrics.artifacts set state = $2 where artifact_id = $1", record.stream_id, REMOVED
            )


async def append_stored(appender: Appender, row: Record, correlation_id: str, actor: str) -> None:
    """Say that the platform has the file, once: who was quicker has said it already. Raises LogUnavailable."""
    event = ArtifactStored(
        job_id=row["job_id"],
        attempt_id=row["attempt_id"],
        kind=kind_name(row["kind"]),
        name=row["name"],
        bytes=row["bytes"],
        sha256=row["sha256"],
        step=row["step"],
    )
    stream = StreamAppend(STREAM, row["artifact_id"], 0, [event])
    try:
        await appender.append(Append(row["workspace_id"], [stream], actor, correlation_id))
    except Conflict:
        return


async def append_removed(appender: Appender, row: Record, correlation_id: str, reason: str) -> None:
    """Raises LogUnavailable."""
    event = ArtifactRemoved(job_id=row["job_id"], reason=reason)
    stream = StreamAppend(STREAM, row["artifact_id"], None, [event])
    await appender.append(Append(row["workspace_id"], [stream], "service:metrics", correlation_id))
