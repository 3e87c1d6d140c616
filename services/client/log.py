"""The event log from a notebook or a program: a token, an address, `replay(...)`."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from protos.eventlog.v1 import eventlog_pb2 as pb
from services.cli.connection import Platform
from services.cli.errors import CliError
from services.cli.settings import load
from services.client.errors import NotInstalled
from services.client.grouping import by_type
from services.client.pages import PATIENCE_S, pages

if TYPE_CHECKING:
    import pyarrow as pa

# Moments as people write them in a notebook.
Moment = datetime | str


@dataclass(frozen=True, slots=True)
class Range:
    """First and last position; `last` may be below `first`, where there is nothing."""

    first: int
    last: int


def connect(server: str = "", token: str = "", *, insecure: bool = False) -> "Log":
    """The event log of the platform at `server` (https://host:port, or host:port on this machine).

    What is not given is found as the command `tether` finds it: TETHER_SERVER, TETHER_TOKEN, the platform of
    `tether up` on this machine. The token's role must be analyst or admin. Raises CliError, a sentence, for an address
    or token that cannot be; connects at the first call.
    """
    environment = {**os.environ, "TETHER_TOKEN": token} if token else os.environ
    return Log(Platform(load(server or os.environ.get("TETHER_SERVER"), None, insecure, environment)))


class Log:
    """What happened, in order. Calls raise PlatformError with a sentence; a broken link is mended where it broke."""

    def __init__(self, platform: Platform, patience_s: float = PATIENCE_S) -> None:
        self._platform, self._patience_s = platform, patience_s

    def head(self) -> pb.GetHeadResponse:
        """The last position, when it was recorded, and the log's id."""
        return self._platform.eventlog.GetHead(pb.GetHeadRequest())

    def position_before(self, at_ms: int, wanted: pb.EventFilter | None = None) -> int:
        """The last position recorded before a Unix millisecond; zero where there is none."""
        if at_ms <= 0:
            return 0
        request = pb.ReadEventsRequest(from_ms=at_ms, filter=wanted)
        stream = self._platform.eventlog.ReadEvents(request, timeout=30)
        # The first response says where the range begins.
        position = next(iter(stream)).scanned_position
        stream.cancel()
        return position

    def pages(self, range_: Range, wanted: pb.EventFilter, log_id: str) -> Iterator[pb.ReadEventsResponse]:
        """The events of a range as they come over the wire; see `services.client.pages`."""
        return pages(self._platform, range_.first, range_.last, wanted, log_id, self._patience_s)

    def replay(
        self,
        types: str | Sequence[str] = (),
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        from_position: int = 0,
        to_position: int = 0,
        job_id: str = "",
        runner_id: str = "",
        workspace_id: str = "",
    ) -> "Replay":
        """The events of these types (default: all) up to now, typed: one column a field.

        `since` ≤ recorded < `until`: a datetime, or text of ISO 8601, which is UTC where it has no offset. Positions
        include both ends. A workspace's own token sees its workspace; an operator may name one.
        """
        if job_id and runner_id:
            raise CliError("name a job_id or a runner_id, not both: an event is about one of them")
        chosen = [types] if isinstance(types, str) else list(types)
        wanted = pb.EventFilter(types=chosen, workspace_id=workspace_id)
        if job_id or runner_id:
            wanted.stream_kind, wanted.stream_id = ("job", job_id) if job_id else ("runner", runner_id)
        first = max(from_position, 1)
        head = self.head()
        last = min(to_position or head.position, head.position)
        if since is not None:
            first = max(first, self.position_before(to_ms(since), wanted) + 1)
        if until is not None:
            last = min(last, self.position_before(to_ms(until), wanted))
        return Replay(self, Range(first, last), wanted, head.log_id)


@dataclass(frozen=True)
class Replay:
    """A range of the log and a choice of types. Each iteration reads it again, from the platform, page by page."""

    log: Log
    range: Range
    wanted: pb.EventFilter
    log_id: str

    def __iter__(self) -> "Iterator[pa.RecordBatch]":
        """Batches of one type each, in which positions rise; `batch.schema.metadata[b"type"]` names the type."""
        try:
            from services.client.columns import batch
        except ImportError:
            raise NotInstalled("reading into Arrow") from None
        for response in self.log.pages(self.range, self.wanted, self.log_id):
            for type_, records in by_type(response.events).items():
                yield batch(type_, records)

    def to_table(self) -> "pa.Table":
        """All events of the one type that was asked for. Raises CliError where that were several."""
        if len(self.wanted.types) != 1:
            raise CliError("a table has the columns of one type: name one in replay(…), or call to_tables()")
        type_ = self.wanted.types[0]
        return self.to_tables()[type_]

    def to_tables(self) -> "dict[str, pa.Table]":
        """A table for each type that was asked for, and for each that was found."""
        try:
            import pyarrow as pa

            from services.client.columns import schema
        except ImportError:
            raise NotInstalled("reading into Arrow") from None
        batches: dict[str, list[pa.RecordBatch]] = {type_: [] for type_ in self.wanted.types}
        for one in self:
            batches.setdefault(one.schema.metadata[b"type"].decode(), []).append(one)
        return {type_: pa.Table.from_batches(found, schema(type_)) for type_, found in batches.items()}


def to_ms(moment: Moment) -> int:
    """Unix milliseconds, rounded down. Raises CliError for what is not ISO 8601."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise CliError(f"{moment!r} is not a moment; write for example 2026-11-22 or 2026-11-22T14:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    passed = moment - epoch
    return (passed.days * 86_400 + passed.seconds) * 1000 + passed.microseconds // 1000
