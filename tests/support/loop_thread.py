"""An event loop on a thread of its own, so that what a whole test session shares outlives the loop of each test."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs until `close`. Processes started on it live as long as the thread (the kernel ties them to it)."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shared-loop", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float = 90.0) -> T:
        """Runs the work there and blocks until it is done."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs the work there while the caller's loop goes on."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
