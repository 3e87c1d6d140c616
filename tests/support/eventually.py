"""Waiting for what happens soon; the only place in the tests that sleeps."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

INTERVAL_S = 0.02

T = TypeVar("T")


@overload
async def eventually(look: Callable[[], Awaitable[T]], timeout_s: float = ..., what: str = ...) -> T: ...
@overload
async def eventually(look: Callable[[], T], timeout_s: float = ..., what: str = ...) -> T: ...


async def eventually(look: Callable[[], object], timeout_s: float = 30.0, what: str = "the expected state") -> object:
    """Looks again and again until the answer is true, and returns it.

    An error counts as "not yet". After `timeout_s` an AssertionError names `what` and the last answer or error.
    """
    loop = asyncio.get_running_loop()
    end_s = loop.time() + timeout_s
    while True:
        last: object
        try:
            answer = look()
            if inspect.isawaitable(answer):
                async with asyncio.timeout_at(end_s):
                    answer = await answer
            if answer:
                return answer
            last = answer
        except Exception as error:
            last = error
        if loop.time() >= end_s:
            cause = last if isinstance(last, Exception) else None
            raise AssertionError(f"{what} did not come within {timeout_s:g} s; the last look gave {last!r}") from cause
        await asyncio.sleep(INTERVAL_S)
