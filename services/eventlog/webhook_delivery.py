"""Delivers webhooks: in order, at least once, each by a task of its own, so that none waits for another."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.clock import Clock
from services.eventlog.webhook_message import TYPES, backoff_s, message, wanted
from services.eventlog.webhook_sender import DeliveryFailed, Sender
from services.eventlog.webhook_store import Hook, note_delivered, note_failure, read_hooks, read_next
from services.postgres import Connection

_log = structlog.get_logger()

# Changes that another replica has taken are seen this soon.
LOOK_S = 1.0
# Events of one workspace in memory.
_PAGE = 50
# Requests under way. Those whose last try failed share places of their own: a receiver that hangs delays no other.
MOST, MOST_FAILING = 64, 16

Backoff = Callable[[int], float]

_T = TypeVar("_T")


class Deliveries:
    """Run `lead` under a leadership; `told` wakes it. `backoff` gives the seconds before the next try."""

    def __init__(
        self, sender: Sender, clock: Clock, backoff: Backoff = lambda failures: backoff_s(failures, random.random())
    ) -> None:
        self._sender, self._clock, self._backoff = sender, clock, backoff
        self._workers: dict[str, tuple[int, asyncio.Task[None]]] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._looking = asyncio.Event()
        self._places = {False: asyncio.Semaphore(MOST), True: asyncio.Semaphore(MOST_FAILING)}

    async def told(self, records: Sequence[EventRecord]) -> None:
        """Deliver what has happened at once."""
        for record in records:
            if record.type in TYPES:
                news = self._news.get(record.workspace_id)
                if news is not None:
                    news.set()

    def changed(self) -> None:
        """A webhook was set, removed or replayed here."""
        self._looking.set()

    async def lead(self, connection: Connection) -> None:
        """Deliver until PostgreSQL is lost (raises) or cancelled."""
        guarded = _Guarded(connection)
        log_id: str = await connection.fetchval("select log_id::text from eventlog.log")
        try:
            while True:
                self._looking.clear()
                hooks = {hook.workspace_id: hook for hook in await guarded.run(read_hooks)}
                await self._keep_workers(hooks, guarded, log_id)
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._looking.wait()
                except TimeoutError:
                    continue
        finally:
            await self._end(list(self._workers))

    async def _keep_workers(self, hooks: dict[str, Hook], guarded: "_Guarded", log_id: str) -> None:
        """A worker for each webhook as it is now."""
        for _, task in self._workers.values():
            if task.done():
                # Its webhook was changed; or this raises, where PostgreSQL is lost, and the leadership with it.
                task.result()
        revisions = {hook.workspace_id: hook.revision for hook in hooks.values()}
        await self._end([one for one, (revision, _) in self._workers.items() if revision != revisions.get(one)])
        for workspace_id, hook in hooks.items():
            if workspace_id not in self._workers:
                news = self._news[workspace_id] = asyncio.Event()
                task = asyncio.create_task(self._deliver(hook, guarded, log_id, news), name=f"webhook {workspace_id}")
                self._workers[workspace_id] = (hook.revision, task)

    async def _end(self, workspaces: Sequence[str]) -> None:
        ending = [self._workers.pop(workspace_id)[1] for workspace_id in workspaces]
        for workspace_id in workspaces:
            del self._news[workspace_id]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _deliver(self, hook: Hook, guarded: "_Guarded", log_id: str, news: asyncio.Event) -> None:
        """One webhook's deliveries, until it is changed, or PostgreSQL is lost (raises)."""
        await asyncio.sleep(max(hook.wait_s, 0))
        current = True
        while current:
            news.clear()
            after = hook.delivered_position
            page = await guarded.run(partial(read_next, workspace_id=hook.workspace_id, after=after, limit=_PAGE))
            for record in page:
                if wanted(record, hook.kinds):
                    hook, current = await self._insist(hook, record, guarded, log_id)
                    if not current:
                        break
                hook = replace(hook, delivered_position=record.position)
            if page and current:
                # What was not asked for counts as delivered too.
                current = await guarded.run(partial(note_delivered, hook=hook, position=hook.delivered_position))
            elif current:
                await news.wait()
        self.changed()

    async def _insist(self, hook: Hook, record: EventRecord, guarded: "_Guarded", log_id: str) -> tuple[Hook, bool]:
        """Deliver one event however long it takes. The hook as it is then, and whether it is still that one."""
        while True:
            told = message(record, log_id, hook.secret, self._clock.now_ms())
            try:
                async with self._places[hook.failures_in_a_row > 0]:
                    await self._sender.send(hook.url, told)
            except DeliveryFailed as failed:
                failures, why = hook.failures_in_a_row + 1, str(failed)
                wait_s = self._backoff(failures)
                hook = replace(hook, failures_in_a_row=failures)
                if not await guarded.run(partial(note_failure, hook=hook, failures=failures, why=why, wait_s=wait_s)):
                    return hook, False
                _log.info("a webhook fails", workspace_id=hook.workspace_id, failures=failures, why=why)
                await asyncio.sleep(wait_s)
            else:
                hook = replace(hook, failures_in_a_row=0)
                return hook, await guarded.run(partial(note_delivered, hook=hook, position=record.position))


class _Guarded:
    """The leader's connection, used by one task at a time: who has lost it, and the leadership, delivers no further."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, asyncio.Lock()

    async def run(self, act: Callable[[Connection], Awaitable[_T]]) -> _T:
        async with self._lock:
            return await act(self._connection)
