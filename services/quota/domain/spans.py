"""Finding the attempts that ran at a position of the log by an ordinary index, however many there were.

An attempt runs from its start's position up to, without, its first outcome's. Each such span is filed under one node:
the number within it that is divisible by the highest power of two (an interval tree of Kriegel, Pötke and Seidl,
VLDB 2000, over all positions). The spans that hold a position are filed under one of the few nodes above it, and under
each of them lie no more spans than trainings ran at once.
"""

_BITS = 62


def node_of(started_position: int, ended_position: int) -> int | None:
    """The node of the span [started, ended); None where it is empty, or has no start."""
    last = ended_position - 1
    if not 0 < started_position <= last:
        return None
    level = (started_position ^ last).bit_length()
    return last >> (level - 1) << (level - 1) if level else last


def nodes_above(position: int) -> list[int]:
    """The nodes under which a span that holds the position can be filed."""
    return [position, *((position >> (level + 1) << (level + 1)) | (1 << level) for level in range(_BITS))]
