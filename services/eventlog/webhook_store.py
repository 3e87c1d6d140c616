"""Rows of the table `webhooks`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord, Webhook
from services.eventlog.catalogue import COLUMNS, EventRow
from services.eventlog.webhook_message import TYPES
from services.postgres import Connection, Pool, Record

_TYPES = ", ".join(f"'{name}'" for name in TYPES)
# Whether there is anything to deliver decides whether the rest of the log counts as delivered.
_VIEW = (
    "select w.url, w.kinds, w.delivered_position, w.failures_in_a_row, w.last_failure, "
    "coalesce((extract(epoch from w.next_try_at) * 1000)::bigint, 0) as next_try_at_ms, "
    "(select coalesce(max(position), 0) from eventlog.events) as head, "
    "exists (select from eventlog.events e where e.workspace_id = w.workspace_id "
    f"and e.position > w.delivered_position and e.type in ({_TYPES})) as waiting "
    "from eventlog.webhooks w where w.workspace_id = $1"
)

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Hook:
    """What a delivery needs to know. A row of another `revision` is another hook."""

    workspace_id: str
    revision: int
    url: str
    kinds: Sequence[int]
    secret: str
    delivered_position: int
    failures_in_a_row: int
    # Until the next try, by PostgreSQL's clock; not above zero: now.
    wait_s: float


async def read_hooks(connection: Connection) -> list[Hook]:
    """All of them. One that is ahead of the log, which was restored or promoted, goes on at its head."""
    rows = await connection.fetch(
        "select w.workspace_id, w.revision, w.url, w.kinds, w.secret, w.failures_in_a_row, "
        "least(w.delivered_position, (select coalesce(max(position), 0) from eventlog.events)) as delivered_position, "
        "coalesce(extract(epoch from w.next_try_at - clock_timestamp())::float8, 0) as wait_s from eventlog.webhooks w"
    )
    return [Hook(**row) for row in rows]


async def read_next(connection: Connection, workspace_id: str, after: int, limit: int) -> list[EventRecord]:
    """Events of a workspace that webhooks tell, in order, by the index made for them."""
    rows = await connection.fetch(
        f"select {COLUMNS} from eventlog.events where workspace_id = $1 and position > $2 and type in ({_TYPES}) "
        "order by position limit $3",
        workspace_id,
        after,
        limit,
    )
    return [EventRow(*row).record() for row in rows]


async def note_delivered(connection: Connection, hook: Hook, position: int) -> bool:
    """False where the hook was changed meanwhile."""
    done = await connection.execute(
        "update eventlog.webhooks set delivered_position = $3, failures_in_a_row = 0, last_failure = '', "
        "next_try_at = null where workspace_id = $1 and revision = $2",
        hook.workspace_id,
        hook.revision,
        position,
    )
    return done == "UPDATE 1"


async def note_failure(connection: Connection, hook: Hook, failures: int, why: str, wait_s: float) -> bool:
    """False where the hook was changed meanwhile."""
    done = await connection.execute(
        "update eventlog.webhooks set failures_in_a_row = $3, last_failure = $4, "
        "next_try_at = clock_timestamp() + make_interval(secs => $5) where workspace_id = $1 and revision = $2",
        hook.workspace_id,
        hook.revision,
        failures,
        why,
        wait_s,
    )
    return done == "UPDATE 1"


async def read_view(connection: Connection | Pool, workspace_id: str) -> Webhook | None:
    """As people see it: without its secret."""
    row = await connection.fetchrow(_VIEW, workspace_id)
    return None if row is None else _view(row)


async def set_hook(connection: Connection, workspace_id: str, url: str, kinds: Sequence[int], secret: str) -> None:
    """A new one tells what happens from now on; one that was there goes on where it was.

    `secret` empty: the one there stays.
    """
    await connection.execute(
        "insert into eventlog.webhooks as known (workspace_id, url, kinds, secret, delivered_position) "
        "select $1, $2, $3, $4, coalesce(max(position), 0) from eventlog.events "
        "on conflict (workspace_id) do update set url = excluded.url, kinds = excluded.kinds, "
        "secret = coalesce(nullif(excluded.secret, ''), known.secret), revision = excluded.revision, "
        "failures_in_a_row = 0, last_failure = '', next_try_at = null",
        workspace_id,
        url,
        list(kinds),
        secret,
    )


async def exists(connection: Connection, workspace_id: str) -> bool:
    """Locked until the transaction ends."""
    return bool(
        await connection.fetchval("select true from eventlog.webhooks where workspace_id = $1 for update", workspace_id)
    )


async def remove(connection: Connection, workspace_id: str) -> bool:
    done = await connection.execute("delete from eventlog.webhooks where workspace_id = $1", workspace_id)
    return done == "DELETE 1"


async def replay(connection: Connection, workspace_id: str, from_position: int) -> None:
    await connection.execute(
        "update eventlog.webhooks set delivered_position = $2, revision = default, failures_in_a_row = 0, "
        "last_failure = '', next_try_at = null where workspace_id = $1",
        workspace_id,
        from_position - 1,
    )


def _view(row: Record) -> Webhook:
    delivered: int = min(row["delivered_position"], row["head"]) if row["waiting"] else row["head"]
    return Webhook(
        url=row["url"],
        kinds=row["kinds"],
        delivered_position=delivered,
        failures_in_a_row=row["failures_in_a_row"],
        last_failure=row["last_failure"],
        next_try_at_ms=row["next_try_at_ms"],
    )
