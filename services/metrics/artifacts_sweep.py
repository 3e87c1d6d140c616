"""Takes away in the background what is not kept any more: files of dropped checkpoints, exports that nobody makes."""

import asyncio
from functools import partial
from pathlib import Path

import structlog

from services.clock import Clock
from services.eventlog.append import LogUnavailable
from services.eventlog.appender import Appender
from services.eventlog.leadership import lead
from services.ids import new_id
from services.metrics.artifacts_partial import remove_old
from services.metrics.artifacts_rows import FAILED, PENDING, READY, REMOVED, append_removed, key_of
from services.metrics.artifacts_store import Store, StoreFailed
from services.postgres import Connection, Pool

_log = structlog.get_logger()

_INTERVAL_S = 2.0
_MOST_AT_ONCE = 100
_PARTIAL_INTERVAL_S = 3600.0
_DAY_MS = 86_400_000
# Uploads that nobody has gone on with, and exports that no box has taken.
KEPT_DAYS = 7


class Sweeper:
    """Run `run` and `remove_partials` in every replica; the first works where the process leads."""

    def __init__(self, url: str, pool: Pool, clock: Clock, appender: Appender, store: Store, folder: Path) -> None:
        self._url, self._pool, self._clock, self._appender = url, pool, clock, appender
        self._store, self._folder = store, folder
        self._told = ""
        # Artifacts whose files the store did not remove: the others come before them.
        self._stuck: set[str] = set()

    async def run(self) -> None:
        await lead(self._url, "metrics.artifacts", self._work)

    async def _work(self, connection: Connection) -> None:
        while True:
            # Raises where the leadership is lost together with its connection.
            await connection.fetchval("select 1")
            try:
                await self._give_up()
                await self._drop()
                await self._clear()
                self._told = ""
            except (StoreFailed, LogUnavailable) as error:
                if str(error) != self._told:
                    _log.warning("artifacts cannot be removed now", reason=str(error))
                    self._told = str(error)
            await asyncio.sleep(_INTERVAL_S)

    async def _drop(self) -> None:
        """First it is said that the platform has them no more: nobody relies on a file that goes."""
        rows = await self._pool.fetch(
            "select * from metrics.artifacts where dropped and state = any($1::smallint[]) limit $2",
            [PENDING, READY],
            _MOST_AT_ONCE,
        )
        for row in rows:
            if row["state"] == READY:
                reason = f"the training's checkpoint strategy has dropped {row['name']}"
                await append_removed(self._appender, row, new_id("req")[4:], reason)
            else:
                await self._pool.execute(
                    "update metrics.artifacts set state = $2 where artifact_id = $1 and state = $3",
                    row["artifact_id"],
                    REMOVED,
                    PENDING,
                )

    async def _clear(self) -> None:
        """Raises StoreFailed, after the others, where one file cannot be removed."""
        rows = await self._pool.fetch(
            "select * from metrics.artifacts where state = $1 and file_left "
            "order by artifact_id = any($2::text[]) limit $3",
            REMOVED,
            list(self._stuck),
            _MOST_AT_ONCE,
        )
        failed: StoreFailed | None = None
        for row in rows:
            try:
                await self._store.remove(key_of(row))
            except StoreFailed as error:
                failed = error
                self._stuck.add(row["artifact_id"])
                continue
            await self._pool.execute(
                "update metrics.artifacts set file_left = false where artifact_id = $1", row["artifact_id"]
            )
            self._stuck.discard(row["artifact_id"])
        if failed is not None:
            raise failed

    async def _give_up(self) -> None:
        await self._pool.execute(
            "update metrics.artifacts set state = $1, message = $2 "
            "where kind <> 1 and state = $3 and created_at_ms < $4",
            FAILED,
            f"no box has made it within {KEPT_DAYS} days",
            PENDING,
            self._clock.now_ms() - KEPT_DAYS * _DAY_MS,
        )

    async def remove_partials(self) -> None:
        """Remove what is left of uploads that have stopped, until cancelled."""
        while True:
            before_s = (self._clock.now_ms() - KEPT_DAYS * _DAY_MS) / 1000
            for name in await self._store.run(partial(remove_old, self._folder, before_s)):
                _log.info("an upload that nobody goes on with was removed", file=name)
            await asyncio.sleep(_PARTIAL_INTERVAL_S)
