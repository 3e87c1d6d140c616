"""Waiting until the read model knows a position."""

import asyncio

from services.clock import Clock
from services.eventlog.projection import Projection
from services.rpc.errors import InvalidField, Unavailable
from services.rpc.kernel import Kernel

_FIRST_LOOK_S = 0.002
_LAST_LOOK_S = 0.1


class Progress:
    """Knows how far the read model is, whichever replica writes it."""

    def __init__(self, kernel: Kernel, projection: Projection, clock: Clock) -> None:
        self._kernel, self._projection, self._clock = kernel, projection, clock

    async def reached(self, position: int, timeout_s: float = 10) -> None:
        """Return when the read model holds everything up to `position`; zero: at once.

        Raises InvalidField for a negative one, Unavailable after `timeout_s`.
        """
        if position < 0:
            raise InvalidField("min_position", position, "positions count from 1; 0 means: do not wait")
        if position == 0 or await self._projection.position() >= position:
            return
        end_s = self._clock.monotonic() + timeout_s
        # The event is told to this process about when it is told to the projection: no need to look before.
        await self._kernel.reached(position, timeout_s)
        look_s = _FIRST_LOOK_S
        while (seen := await self._projection.position()) < position:
            if self._clock.monotonic() >= end_s:
                raise Unavailable(
                    f"the minutes are counted up to position {seen}, not yet {position}; repeat the request in a second"
                )
            await asyncio.sleep(look_s)
            look_s = min(look_s * 2, _LAST_LOOK_S)
