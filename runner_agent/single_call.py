"""Calls that may hang for good, at most one at a time: a driver that hangs holds one thread, and no more."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from runner_agent.threads import in_daemon_thread

T = TypeVar("T")


class SingleCall:
    """Calls in a thread of their own. While one that was given up has not returned, no other begins."""

    def __init__(self) -> None:
        self._late: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """The result of `work`, or what it raised. Raises TimeoutError: it takes longer, or an earlier one hangs."""
        if self._late is not None and not self._late.done():
            raise TimeoutError("an earlier call has not returned yet")
        self._late = None
        call = asyncio.ensure_future(in_daemon_thread(work))
        try:
            done, _ = await asyncio.wait([call], timeout=timeout_s)
        except asyncio.CancelledError:
            call.cancel()
            raise
        if not done:
            call.add_done_callback(_retrieve)
            self._late = call
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        return call.result()


def _retrieve(call: "asyncio.Future[Any]") -> None:
    """What it raised, so late, is of no use to anyone; asked for, it is not logged as forgotten."""
    if not call.cancelled():
        call.exception()
