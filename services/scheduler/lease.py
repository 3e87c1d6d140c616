"""A scheduler process's lease on its sessions: what it acknowledges, no other process may call lost."""

import asyncio

import structlog

from services.clock import Clock
from services.postgres import LOST, Pool

_log = structlog.get_logger()


class Lease:
    """Renewed in PostgreSQL at a third of its length. Make it with `renew` before the first session is opened."""

    def __init__(self, pool: Pool, clock: Clock, replica: str, length_ms: int) -> None:
        self._pool, self._clock, self._replica, self._length_s = pool, clock, replica, length_ms / 1000
        self._valid_until = 0.0

    @property
    def valid(self) -> bool:
        """Whether a heartbeat that is read now may be acknowledged.

        Counted from before the question to PostgreSQL, so it ends here before it ends for the other processes.
        """
        return self._clock.monotonic() < self._valid_until

    async def keep(self) -> None:
        """Renew until cancelled. Without PostgreSQL the lease runs out: boxes then dial anew, and trainings go on."""
        while True:
            await asyncio.sleep(self._length_s / 3)
            try:
                await self.renew()
            except LOST as error:
                _log.warning("the lease is not renewed", error=str(error))

    async def renew(self) -> None:
        """Raises one of `LOST`."""
        asked_at = self._clock.monotonic()
        await self._pool.execute(
            "insert into scheduler.replicas (replica, expires_at) "
            "values ($1, clock_timestamp() + make_interval(secs => $2)) "
            "on conflict (replica) do update set expires_at = excluded.expires_at",
            self._replica,
            self._length_s,
        )
        self._valid_until = asked_at + self._length_s
        await self._pool.execute(
            "delete from scheduler.replicas p where expires_at < clock_timestamp() - interval '1 hour' "
            "and not exists (select from scheduler.runners r where r.replica = p.replica and r.connected)"
        )
