"""The limit of points per second: a bucket that fills with the time that the records' own stamps tell. Pure.

It follows from the records alone: however they are cut into batches, repeated or delayed, the same are admitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# So much may come at once after a quiet time.
_BURST_S = 10


@dataclass(frozen=True, slots=True)
class Room:
    """How many points may come at once, after the record with the stamp `at_ms` (Unix milliseconds)."""

    points: float
    at_ms: int


def admit(
    room: Room | None, rows: Sequence[tuple[int, int, int]], points_per_s: int
) -> tuple[Room | None, frozenset[int]]:
    """The room behind the rows, and the sequences of the rows that have none; rows are (sequence, stamp, points).

    A room of None is full. A clock that is set back adds nothing, and counts on from there.
    """
    if not rows:
        return room, frozenset()
    most = float(_BURST_S * points_per_s)
    left, before_ms = (most, rows[0][1]) if room is None else (room.points, room.at_ms)
    beyond = []
    for sequence, at_ms, points in rows:
        if at_ms > before_ms:
            left = min(most, left + (at_ms - before_ms) * points_per_s / 1000)
        before_ms = at_ms
        if points <= left:
            left -= points
        else:
            beyond.append(sequence)
    return Room(left, before_ms), frozenset(beyond)


def rate_refusal(points_per_s: int) -> str:
    return f"points per second: this is more than the limit of {points_per_s}, of which {_BURST_S} s may come at once"
