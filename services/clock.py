"""The only place in the services that reads a clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time; injected so that tests and simulations choose it."""

    def now_ms(self) -> int:
        """Platform time in Unix milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary point, never set back."""
        ...


class PlatformClock:
    """PostgreSQL's clock, carried forward by the local monotonic clock between syncs.

    Every replica tells the same time within half a round trip to the database, whatever the wall clocks of their
    hosts say. Before the first sync it answers with the host's wall clock.
    """

    def __init__(self) -> None:
        self._offset_ms = time.time_ns() // 1_000_000 - time.monotonic_ns() // 1_000_000

    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000 + self._offset_ms

    def monotonic(self) -> float:
        return time.monotonic()

    def sync(self, postgres_ms: int, asked_at: float, answered_at: float) -> None:
        """Set the offset from one question to PostgreSQL; `asked_at` and `answered_at` are `monotonic()` readings."""
        self._offset_ms = postgres_ms - int((asked_at + answered_at) / 2 * 1000)
