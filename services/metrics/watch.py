"""The loop of a watch stream: look at once, then whenever woken, and show each 15 s that the stream is alive."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from services.rpc.credentials import Principal
from services.rpc.kernel import Kernel
from services.rpc.shell import KEEP_ALIVE_S, RECHECK_S

# Looks are this far apart at least: hints that come meanwhile are answered by one.
_COALESCE_S = 0.05

R = TypeVar("R")


async def watch(
    kernel: Kernel,
    principal: Principal,
    woken: asyncio.Event,
    look: Callable[[], AsyncIterator[R]],
    empty: Callable[[], R],
) -> AsyncIterator[R]:
    """What each look finds, until cancelled. The first response comes at once, even if it is empty.

    A reader that is slow delays the next look; nothing is queued for it. Raises BadCredentials within a second after
    the principal's token was withdrawn.
    """
    said_at = float("-inf")
    while True:
        woken.clear()
        looked_at = kernel.clock.monotonic()
        kernel.shell.check_still_valid(principal)
        async for response in look():
            kernel.shell.check_still_valid(principal)
            yield response
            said_at = kernel.clock.monotonic()
        if kernel.clock.monotonic() - said_at >= KEEP_ALIVE_S:
            yield empty()
            said_at = kernel.clock.monotonic()
        try:
            # Without a hint (NATS may be away) it looks each second all the same.
            async with asyncio.timeout(RECHECK_S):
                await woken.wait()
        except TimeoutError:
            continue
        await asyncio.sleep(max(looked_at + _COALESCE_S - kernel.clock.monotonic(), 0))
