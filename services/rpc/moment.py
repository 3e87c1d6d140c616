"""From the moment of a request to the position and the time that an answer is as of."""

from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from protos.common.v1.moment_pb2 import Moment
from services.eventlog.appender import settled
from services.eventlog.read import position_at, read_head, recorded_at_ms
from services.postgres import Pool
from services.rpc.errors import InvalidField, Unavailable


@dataclass(frozen=True, slots=True)
class AsOf:
    """A moment of the log's past: what is known then never changes."""

    # The last event that is known; zero before the first.
    position: int
    # Unix milliseconds: what goes on is counted up to here.
    at_ms: int


async def resolve(pool: Pool, moment: Moment) -> AsOf:
    """The past that a moment names; a position's time is when its event was recorded.

    Raises InvalidField (`as_of`) for one that the log has not reached, Unavailable where appends are held up.
    """
    match moment.WhichOneof("moment"):
        case "position":
            return await _at_position(pool, moment.position)
        case "at_ms":
            return await _at_time(pool, moment.at_ms)
    raise InvalidField("as_of", "", "it names a position or a time; leave it out for now")


async def _at_position(pool: Pool, position: int) -> AsOf:
    head = (await read_head(pool)).position
    if not 1 <= position <= head:
        reach = f"the log goes from #1 to #{head}" if head else "the log is empty"
        raise InvalidField("as_of", f"#{position}", reach)
    return AsOf(position, await recorded_at_ms(pool, position))


async def _at_time(pool: Pool, at_ms: int) -> AsOf:
    if at_ms < 0:
        raise InvalidField("as_of", f"{at_ms} ms", "times count from 1970 on")
    head = (await read_head(pool)).position
    position = await position_at(pool, at_ms)
    if position >= head:
        # No later event proves that the log has passed this moment: one of before may just be on its way into it.
        now_ms = await _settled(pool)
        if at_ms >= now_ms:
            raise InvalidField("as_of", _shown(at_ms), f"it lies in the future; it is {_shown(now_ms)} now")
        position = await position_at(pool, at_ms)
    return AsOf(position, at_ms)


async def _settled(pool: Pool) -> int:
    try:
        return await settled(pool)
    except asyncpg.LockNotAvailableError:
        raise Unavailable("the event log takes no appends at the moment; repeat the request in a minute") from None


def _shown(at_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError):
        return f"{at_ms} ms"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
