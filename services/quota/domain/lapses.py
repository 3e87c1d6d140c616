"""When a training ran on without a connection."""

from collections.abc import Iterable
from typing import NamedTuple


class LinkChange(NamedTuple):
    """The runner of an attempt fell silent, or was heard of again."""

    position: int
    cut_off: bool
    # Cut off: when it was last heard of, Unix milliseconds. Otherwise: for how long it had been cut off.
    ms: int


class Lapse(NamedTuple):
    """A time without a connection, from the last contact to the next one."""

    from_ms: int
    to_ms: int
    cut_position: int
    # Zero: it was not heard of again.
    back_position: int


def lapses(links: Iterable[LinkChange], start_ms: int, until_ms: int) -> list[Lapse]:
    """The lapses within [start, until), in order, none empty, without overlap."""
    found: list[Lapse] = []
    cut: LinkChange | None = None
    for link in sorted(links):
        if link.cut_off:
            cut = cut or link
        elif cut is not None:
            found.append(Lapse(cut.ms, cut.ms + link.ms, cut.position, link.position))
            cut = None
    if cut is not None:
        found.append(Lapse(cut.ms, until_ms, cut.position, 0))
    within: list[Lapse] = []
    for lapse in found:
        from_ms, to_ms = max(lapse.from_ms, start_ms), min(lapse.to_ms, until_ms)
        if from_ms < to_ms:
            within.append(lapse._replace(from_ms=from_ms, to_ms=to_ms))
            start_ms = to_ms
    return within
