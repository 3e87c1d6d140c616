"""Calls that may hang for good, a driver's for example, kept away from the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """The result of `work`, or what it raised. A call that never returns keeps neither loop nor exit waiting."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def call() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:
            error = raised
        # The loop may be closed by the time a slow call returns.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=call, daemon=True).start()
    return await future


def in_time(work: Callable[[], T], timeout_s: float) -> T:
    """The result of `work`, or what it raised, before there is a loop. Raises TimeoutError; the call goes on alone."""
    results: list[T] = []
    raised: list[Exception] = []

    def call() -> None:
        try:
            results.append(work())
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if raised:
        raise raised[0]
    if not results:
        raise TimeoutError(f"the driver did not answer within {timeout_s:g} s; see whether `nvidia-smi` works")
    return results[0]
