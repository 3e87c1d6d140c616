"""The quota's timer: sleeps until running attempts must have used up a level of a quota, and then says so."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.workspace_pb2 import QuotaExhausted, QuotaReplenished, QuotaSet
from services.clock import Clock
from services.eventlog.append import Append, Conflict, LogUnavailable, StreamAppend
from services.eventlog.appender import Appender
from services.eventlog.leadership import lead
from services.eventlog.read import read_head
from services.ids import new_id
from services.postgres import Connection, Pool
from services.quota.domain.budget import Budget, decide, due_at_ms
from services.quota.domain.ledger import MINUTES_EVENTS
from services.quota.domain.minutes import period_of
from services.quota.progress import Progress
from services.quota.store import read_budgets, read_limited
from services.rpc.errors import Unavailable

_log = structlog.get_logger()

# After these, what is left of a quota is used up at another moment than before.
_MOVING = frozenset((*MINUTES_EVENTS, QuotaSet.DESCRIPTOR.name))

# Events of one moment are decided on together.
_GATHER_S = 0.2
# The platform's clock is set anew now and then, so no sleep is longer.
_LONGEST_SLEEP_MS = 30_000
_RETRY_MS = 1000

# Returns when the event is set, or after that many seconds.
Wait = Callable[[asyncio.Event, float], Awaitable[None]]


async def wait_for_event(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return


class QuotaTimer:
    """Tell it of every event with `told`, and `run` it in every replica: the leader decides."""

    def __init__(
        self,
        url: str,
        pool: Pool,
        clock: Clock,
        progress: Progress,
        appender: Appender,
        wait: Wait = wait_for_event,
    ) -> None:
        self._url, self._pool, self._clock, self._wait = url, pool, clock, wait
        self._progress, self._appender = progress, appender
        # Workspaces to decide anew; no more of them than there are workspaces.
        self._touched: set[str] = set()
        self._woken = asyncio.Event()

    async def told(self, records: Sequence[EventRecord]) -> None:
        """A listener of the kernel."""
        touched = {record.workspace_id for record in records if record.type in _MOVING}
        if touched:
            self._touched |= touched
            self._woken.set()

    async def run(self) -> None:
        """Decide while this process leads, until cancelled."""
        await lead(self._url, "quota.timer", self._work)

    async def _work(self, connection: Connection) -> None:
        # Workspace → when it is decided next. Those without a quota are not in it.
        due_ms: dict[str, int] = await self._everyone()
        while True:
            # Raises where the leadership is lost together with its connection.
            await connection.fetchval("select 1")
            self._woken.clear()
            now_ms = self._clock.now_ms()
            wanted = self._touched | {workspace_id for workspace_id, at_ms in due_ms.items() if at_ms <= now_ms}
            self._touched = set()
            for workspace_id in wanted:
                due_ms.pop(workspace_id, None)
            due_ms |= await self._decide(sorted(wanted), now_ms)
            next_ms = min((now_ms + _LONGEST_SLEEP_MS, *due_ms.values()))
            await self._wait(self._woken, max(next_ms - self._clock.now_ms(), 0) / 1000)
            if self._woken.is_set():
                await asyncio.sleep(_GATHER_S)

    async def _everyone(self) -> dict[str, int]:
        """All workspaces with a quota, due at once. What the read model does not hold yet would be missed, so wait."""
        head = await read_head(self._pool)
        while True:
            try:
                await self._progress.reached(head.position)
            except Unavailable as error:
                _log.info("the quota's timer waits for the read model", error=str(error))
            else:
                return dict.fromkeys(await read_limited(self._pool), 0)

    async def _decide(self, workspaces: Sequence[str], now_ms: int) -> dict[str, int]:
        """Announce what is to be announced as of `now_ms`, and return when each workspace is to be decided next."""
        if not workspaces:
            return {}
        again = dict.fromkeys(workspaces, now_ms + _RETRY_MS)
        # Read before the head: an append that expects these versions is refused if the quota was set since.
        versions = await self._versions(workspaces)
        # Read after `now_ms`: a training that ended before it, and was told, is known to have ended.
        head = await read_head(self._pool)
        try:
            await self._progress.reached(head.position)
            budgets = await read_budgets(self._pool, workspaces, period_of(now_ms))
        except Unavailable as error:
            _log.info("the quota's timer tries again", error=str(error))
            return again
        due: dict[str, int] = {}
        for workspace_id, budget in budgets.items():
            announced = await self._announce(workspace_id, budget, versions.get(workspace_id, 0), now_ms)
            # The announcements come back as events but do not touch; so look once more, which finds the next level.
            due[workspace_id] = now_ms if announced else due_at_ms(budget, now_ms)
        return due

    async def _announce(self, workspace_id: str, budget: Budget, version: int, now_ms: int) -> bool:
        """Append what is decided. True if something was, or if others were faster: then decide anew."""
        events = decide(budget, now_ms)
        if not events:
            return False
        append = Append(
            workspace_id,
            [StreamAppend("workspace", workspace_id, version, events)],
            actor="service:quota",
            correlation_id=new_id("req")[4:],
        )
        try:
            await self._appender.append(append)
        except (Conflict, LogUnavailable) as error:
            _log.info("the quota is decided anew", workspace=workspace_id, error=str(error))
        else:
            for event in events:
                if isinstance(event, QuotaExhausted):
                    _log.info("quota exhausted", workspace=workspace_id, period=event.period)
                elif isinstance(event, QuotaReplenished):
                    _log.info("quota replenished", workspace=workspace_id, period=event.period)
        return True

    async def _versions(self, workspaces: Sequence[str]) -> dict[str, int]:
        rows = await self._pool.fetch(
            "select id, version from eventlog.streams where kind = 'workspace' and id = any($1::text[])", workspaces
        )
        return {row["id"]: row["version"] for row in rows}
