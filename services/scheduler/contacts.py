"""When occupied runners were heard last, durably: what is left of a scheduler process that died."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.clock import Clock
from services.postgres import LOST, Pool
from services.scheduler.domain.runner import Runner
from services.scheduler.sessions import Sessions
from services.scheduler.store import Store

_log = structlog.get_logger()

FLUSH_INTERVAL_MS = 30_000


@dataclass(frozen=True, slots=True)
class Contact:
    """A runner was heard at that moment, while it held the attempt."""

    attempt_id: str
    heard_at_ms: int


def last_contact_ms(
    runner: Runner, contact: Contact | None, lease_ended_ms: int | None, lease_ms: int, now_ms: int
) -> int:
    """The latest moment at which a process that is gone can have acknowledged a heartbeat of the runner. Pure.

    Never earlier than the truth: a process acknowledges only within its lease. Where that is not known any more, a
    contact of the same attempt bounds it, because a living process would have written the next one; without either,
    everything until now is possible.
    """
    known_ms = max(runner.last_contact_at_ms, contact.heard_at_ms if contact is not None else 0)
    if lease_ended_ms is not None:
        return max(known_ms, lease_ended_ms)
    if contact is not None and runner.attempt_id == contact.attempt_id:
        return min(now_ms, known_ms + FLUSH_INTERVAL_MS + lease_ms)
    return now_ms


class Contacts:
    """Reads and writes the table `contacts`."""

    def __init__(self, pool: Pool, store: Store, sessions: Sessions, clock: Clock) -> None:
        self._pool, self._store, self._sessions, self._clock = pool, store, sessions, clock

    async def keep(self) -> None:
        """Write what this process has heard each half minute, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_MS / 1000)
            try:
                await self.flush()
            except LOST as error:
                _log.warning("last contacts are not written", error=str(error))

    async def flush(self) -> int:
        """Write them in one statement; returns how many. Raises one of `LOST`."""
        heard: list[tuple[str, str, int]] = []
        for runner_id in self._sessions.runner_ids():
            heard_at_ms = self._sessions.heard_at_ms(runner_id)
            runner = await self._store.runner(runner_id) if heard_at_ms else None
            if runner is not None and runner.attempt_id:
                heard.append((runner_id, runner.attempt_id, heard_at_ms))
        if heard:
            await self._pool.execute(
                "insert into scheduler.contacts as known (runner_id, attempt_id, heard_at_ms) "
                "select * from unnest($1::text[], $2::text[], $3::bigint[]) "
                "on conflict (runner_id) do update "
                "set attempt_id = excluded.attempt_id, heard_at_ms = excluded.heard_at_ms "
                "where known.heard_at_ms < excluded.heard_at_ms",
                *(list(column) for column in zip(*heard, strict=True)),
            )
        return len(heard)

    async def of(self, runner_ids: Sequence[str]) -> dict[str, Contact]:
        """What any process has written of these runners."""
        rows = await self._pool.fetch(
            "select runner_id, attempt_id, heard_at_ms from scheduler.contacts where runner_id = any($1::text[])",
            list(runner_ids),
        )
        return {row["runner_id"]: Contact(row["attempt_id"], row["heard_at_ms"]) for row in rows}
